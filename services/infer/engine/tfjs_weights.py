"""Weights of a TensorFlow.js model: the manifest's shards, with their quantisation undone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagemesh.errors import ConfigError
from stagemesh.repository import inside

DTYPES = {"float32": torch.float32, "int32": torch.int32, "bool": torch.bool, "uint8": torch.uint8}
STORED = {**DTYPES, "uint16": torch.uint16, "float16": torch.float16}


def field(table: object, key: str, kind: type[Any] | tuple[type[Any], ...], what: str) -> Any:
    """The value of `key` in a JSON object, of the Python type `kind`. Raises ConfigError otherwise."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{what}: expected an object, found {_short(table)}")
    value = table.get(key)
    if not isinstance(value, kind):
        names = " or ".join(item.__name__ for item in (kind if isinstance(kind, tuple) else (kind,)))
        raise ConfigError(f"{what}: key '{key}': expected {names}, found {_short(value)}")
    return value


def read_weights(manifest: Sequence[object], folder: Path, where: str) -> dict[str, Tensor]:
    """Every weight of `manifest` by name, in the dtype it is computed with.

    Raises ConfigError: a shard that is missing or outside `folder`, more or fewer bytes than the weights
    need, an unknown dtype or quantisation, two weights of one name.
    """
    weights: dict[str, Tensor] = {}
    for group in manifest:
        entries = field(group, "weights", list, f"{where}: weightsManifest")
        sizes = [_stored_bytes(entry, where) for entry in entries]
        data = memoryview(_shards(field(group, "paths", list, f"{where}: weightsManifest"), sum(sizes), folder, where))
        for entry, size in zip(entries, sizes, strict=True):
            name = field(entry, "name", str, f"{where}: weight")
            if name in weights:
                raise ConfigError(f"{where}: expected each weight once, found '{name}' twice")
            weights[name] = _weight(entry, data[:size], f"{where}: weight '{name}'")
            data = data[size:]
    return weights


def _shards(paths: list[object], size: int, folder: Path, where: str) -> bytearray:
    files = [inside(folder, str(path), f"{where}: weightsManifest") for path in paths]
    found = sum(file.stat().st_size for file in files)
    if found != size:
        raise ConfigError(f"{where}: expected {size} bytes in {', '.join(map(str, paths))}, found {found}")
    data = bytearray()
    for file in files:
        data += file.read_bytes()
    return data


def _stored_bytes(entry: object, where: str) -> int:
    what = f"{where}: weight '{field(entry, 'name', str, f'{where}: weight')}'"
    shape = field(entry, "shape", list, what)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ConfigError(f"{what}: expected a shape of integers of 0 or more, found {_short(shape)}")
    count: int = math.prod(shape)
    return count * _stored_dtype(entry, what).itemsize


def _stored_dtype(entry: object, what: str) -> torch.dtype:
    dtype = field(entry, "dtype", str, what)
    if dtype not in DTYPES:
        raise ConfigError(f"{what}: expected a dtype of {', '.join(DTYPES)}, found {dtype!r}")
    assert isinstance(entry, Mapping)  # field() checked it
    if entry.get("quantization") is None:
        return DTYPES[dtype]
    stored = field(entry["quantization"], "dtype", str, f"{what}: quantization")
    if stored not in ("uint8", "uint16", "float16") or (stored == "float16" and dtype != "float32"):
        raise ConfigError(f"{what}: expected a quantization to uint8, uint16 or float16, found {stored!r} of {dtype}")
    return STORED[stored]


def _weight(entry: Mapping[str, Any], data: memoryview, what: str) -> Tensor:
    dtype, stored = DTYPES[entry["dtype"]], _stored_dtype(entry, what)
    if not data:
        return torch.empty(entry["shape"], dtype=dtype)
    values = torch.frombuffer(bytearray(data), dtype=stored).reshape(entry["shape"])
    if entry.get("quantization") is None or stored == torch.float16:
        return values.to(dtype)
    scale = field(entry["quantization"], "scale", (int, float), f"{what}: quantization")
    least = field(entry["quantization"], "min", (int, float), f"{what}: quantization")
    real: Tensor = values.to(torch.float32) * scale + least
    return real if dtype == torch.float32 else real.round().to(dtype)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
