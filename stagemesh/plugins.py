"""The classes a user writes to change what a stage does, and how they are found.

A plug-in is named in its stage's table of model.toml: by a registered name, by an entry point of the groups
`stagemesh.preprocessors` and `stagemesh.postprocessors`, or as "file:my_pre.py:MyPre" inside the model's folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import linecache
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

from stagemesh.errors import ConfigError
from stagemesh.oip.signature import Signature
from stagemesh.oip.tensors import Parameter
from stagemesh.repository import ModelFolder, inside, parse_table

Arrays = dict[str, NDArray[Any]]
Builtins = Mapping[str, Callable[[], type["Plugin"]]]
Kind = Literal["preprocess", "postprocess"]


@dataclass(frozen=True)
class NoOptions:
    """Options of a plug-in that has no keys of its own."""


class Plugin(ABC):
    """What a stage calls for one model. One instance serves all requests: `run` is called from several threads."""

    Options: ClassVar[type[Any]] = NoOptions
    """A frozen dataclass: the plug-in's own keys in its table of model.toml."""

    def __init__(self, options: Any, folder: ModelFolder) -> None:
        self.options = options
        self.folder = folder

    @abstractmethod
    def signature(self) -> Signature:
        """Names, datatypes and shapes of the tensors taken and given, batch first."""

    @abstractmethod
    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        """Compute one batch; `inputs` fit the signature, BYTES tensors are object arrays of bytes.

        Raises InvalidInput for what the caller got wrong and StageFailed for what went wrong here.
        """

    def close(self) -> None:  # noqa: B027  # most have nothing to give back
        """Give back what is more than memory; called once, after the last `run`."""


class Preprocessor(Plugin):
    """Base of the plug-ins that turn what a client sends into what the network takes."""


class Postprocessor(Plugin):
    """Base of the plug-ins that turn what the network gives into what a client wants."""


_KINDS: dict[Kind, tuple[type[Plugin], str]] = {
    "preprocess": (Preprocessor, "stagemesh.preprocessors"),
    "postprocess": (Postprocessor, "stagemesh.postprocessors"),
}


def load_plugin(kind: Kind, folder: ModelFolder, table: Mapping[str, object], builtins: Builtins) -> Plugin:
    """Make the plug-in that `table`, batching keys taken out, names in its key `plugin`.

    Raises ConfigError for an unknown name, a class that is no plug-in of this kind, and bad options.
    """
    where = folder.where(kind)
    name = table.get("plugin")
    if not isinstance(name, str):
        raise ConfigError(f"{where}: key 'plugin': expected a string, found {name!r}")
    cls = _check_class(_find(kind, folder, name, builtins), kind, f"{where}: plug-in '{name}'")
    options = {key: value for key, value in table.items() if key != "plugin"}
    return _make(cls, parse_table(cls.Options, options, where), folder, f"{where}: plug-in '{name}'")


def load_from_file(folder: Path, reference: str, where: str) -> object:
    """The object that "file:module.py:name" names inside `folder`. Raises ConfigError with file and line.

    The module is run afresh at each call, under a name of its own, and can't import its neighbours.
    """
    parts = reference.split(":")
    if len(parts) != 3 or parts[0] != "file" or not parts[1].endswith(".py") or not parts[2].isidentifier():
        raise ConfigError(f"{where}: expected 'file:module.py:name', found '{reference}'")
    module = _run_module(inside(folder, parts[1], where), where)
    try:
        return getattr(module, parts[2])
    except AttributeError:
        raise ConfigError(f"{where}: expected '{parts[2]}' in {parts[1]}, found no such name") from None


def _find(kind: Kind, folder: ModelFolder, name: str, builtins: Builtins) -> object:
    where = f"{folder.where(kind)}: key 'plugin'"
    if name.startswith("file:"):
        return load_from_file(folder.path, name, where)
    if name in builtins:
        return builtins[name]()
    installed = {entry.name: entry for entry in entry_points(group=_KINDS[kind][1])}
    if name in installed:
        return _load_entry(installed[name], where)
    known = ", ".join(sorted({*builtins, *installed})) or "none"
    raise ConfigError(f"{where}: unknown plug-in '{name}'; known: {known}, or 'file:module.py:Class'")


def _load_entry(entry: EntryPoint, where: str) -> object:
    try:
        return entry.load()
    except (Exception, SystemExit) as error:  # foreign code may raise anything while it is imported
        raise ConfigError(f"{where}: can't import {entry.value}: {located(error)}") from error


def _check_class(found: object, kind: Kind, where: str) -> type[Plugin]:
    base = _KINDS[kind][0]
    if not isinstance(found, type) or not issubclass(found, base):
        raise ConfigError(f"{where}: expected a subclass of stagemesh.plugins.{base.__name__}, found {found!r}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigError(f"{where}: expected every method of {base.__name__}, found no {missing}")
    return found


def _make(cls: type[Plugin], options: object, folder: ModelFolder, where: str) -> Plugin:
    try:
        return cls(options, folder)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # the constructor is the user's
        raise ConfigError(f"{where}: can't be made: {located(error, home_of(cls))}") from error


def _run_module(path: Path, where: str) -> ModuleType:
    name = f"stagemesh_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    loader = _FreshLoader(name, str(path))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    module.__file__ = str(path)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and type hints look their module up there
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's module may raise anything
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise ConfigError(f"{where}: can't import {path}: {located(error, path)}") from error
    return module


class _FreshLoader(SourceFileLoader):
    """Compiles the file as it is now: Python tells stale bytecode by whole seconds and the file's size alone."""

    def get_code(self, fullname: str) -> CodeType:
        linecache.checkcache(self.path)
        return self.source_to_code(self.get_data(self.path), self.path)


def located(error: BaseException, home: Path | None = None) -> str:
    """What was raised, with file and line as `own_frame` finds them."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return text  # names file and line itself
    frame = own_frame(error, home)
    return f"{text} ({frame.filename}, line {frame.lineno})"


def own_frame(error: BaseException, home: Path | None) -> traceback.FrameSummary:
    """Where a caught error arose: the innermost frame in the file or folder `home`, else the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if home is not None and Path(frame.filename).is_relative_to(home)]
    return (own or frames)[-1]


def home_of(cls: type) -> Path:
    """Where the code of a class lies: the folder of its package, or its file where it has none."""
    file = Path(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")
    return file.parent if "." in cls.__module__ else file
