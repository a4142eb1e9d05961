"""Reading a torch exported program (.pt2) without running what it carries.

torch's own loader trusts the file: it loads native code that lies beside the graph, unpickles custom objects, evaluates
the text of symbolic sizes and looks functions up by any name in torch. So the archive is looked through first, and
what a plain graph does not need is refused.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from stagemesh.errors import ConfigError

FORBIDDEN = ("/aotinductor/", "/custom_obj", "/opaque")
SAMPLES = "/data/sample_inputs/"
MOST_JSON_BYTES = 256 << 20

_TARGET = re.compile(
    r"torch\.ops\.(aten|prims)\.[a-zA-Z0-9_]+\.[a-zA-Z0-9_]+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|torch\.sym_(int|float|not|max|min|ite|sum)|math\.(ceil|floor|trunc)"
)
_FUNCTIONS = {
    "Mod", "PythonMod", "FloorDiv", "CleanDiv", "CeilDiv", "ModularIndexing", "IntTrueDiv", "FloatTrueDiv", "Max",
    "Min", "ToFloat", "TruncToInt", "FloorToInt", "CeilToInt", "RoundToInt", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And",
    "Or", "Not", "Symbol", "Integer", "Rational", "Add", "Mul", "Pow", "Equality", "Unequality", "StrictLessThan",
    "LessThan", "StrictGreaterThan", "GreaterThan", "true", "false", "True", "False", "floor", "ceiling",
    "oo", "int_oo", "inf",
}  # fmt: skip
_SYMBOL = re.compile(r"Symbol\('(s|u|zf|zuf)\d+'(, [a-z]+=(True|False))*\)|\b(s|u|zf|zuf)\d+\b")
_EXPRESSION = re.compile(r"[A-Za-z0-9_ +\-*/%(),<>=!&|~]*")
_NUMBER = re.compile(r"\d+")


def load_exported(path: Path) -> nn.Module:
    """The module of the exported program in `path`.

    Raises ConfigError: no such archive, one that holds code or objects, one that torch can't load.
    """
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: nn.Module = torch.export.load(path).module(check_guards=False)
    except ConfigError:
        raise
    except Exception as error:  # the loader fails on a broken file in zip, JSON, tensors or the graph
        text = str(error).strip().partition("\n")[0]
        raise ConfigError(f"{path.name}: expected a torch exported program: {type(error).__name__}: {text}") from error
    # the check of input shapes can't be traced; the profile of an engine checks them too
    module._forward_pre_hooks.clear()
    return module


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if any(part in f"/{entry.filename}" for part in FORBIDDEN):
                raise ConfigError(f"{path.name}: expected a graph and tensors, found code or objects: {entry.filename}")
            if SAMPLES in f"/{entry.filename}":
                # torch itself unpickles anything where this fails
                torch.load(io.BytesIO(archive.read(entry)), map_location="cpu", weights_only=True)
            if entry.filename.endswith(".json"):
                if entry.file_size > MOST_JSON_BYTES:
                    raise ConfigError(
                        f"{path.name}: {entry.filename}: expected at most {MOST_JSON_BYTES} bytes, "
                        f"found {entry.file_size}"
                    )
                _check_json(json.loads(archive.read(entry)), f"{path.name}: {entry.filename}")


def _check_json(content: object, where: str) -> None:
    for key, value in _leaves(content):
        if key == "target" and not _TARGET.fullmatch(str(value)):
            raise ConfigError(f"{where}: expected operators of torch, found {value!r}")
        if key == "expr_str" and not _is_plain(str(value)):
            raise ConfigError(f"{where}: expected a size as an expression, found {value!r}")
        if key == "use_pickle" and value:
            raise ConfigError(f"{where}: expected plain tensors, found a pickled one")


def _leaves(content: object) -> Iterator[tuple[str, object]]:
    """Every text, number and flag in nested JSON with the key it stands under."""
    waiting: list[tuple[str, object]] = [("", content)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.items())
        elif isinstance(value, list):
            waiting.extend((key, item) for item in value)
        else:
            yield key, value


def _is_plain(text: str) -> bool:
    rest = _SYMBOL.sub("0", text)
    names = re.findall(r"[A-Za-z0-9_]+", rest)
    return bool(_EXPRESSION.fullmatch(rest)) and all(name in _FUNCTIONS or _NUMBER.fullmatch(name) for name in names)
