"""Tensors of an ONNX file: checked against their declared size before a byte of memory is taken for them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto

from stagemesh.errors import ConfigError
from stagemesh.repository import inside

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.BFLOAT16: torch.bfloat16,
}
_LISTS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.INT64: "int64_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}
_BITS_16 = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def dtype_of(code: int, what: str) -> torch.dtype:
    """The dtype of an ONNX element type. Raises ConfigError naming `what` for one without numbers or sub-byte."""
    if code not in DTYPES:
        names: dict[int, str] = {value: key for key, value in TensorProto.DataType.items()}
        known = ", ".join(names[known] for known in DTYPES)
        raise ConfigError(f"{what}: expected an element type of {known}; found {names.get(code, code)}")
    return DTYPES[code]


def read_tensor(proto: TensorProto, folder: Path, where: str) -> torch.Tensor:
    """The values of `proto`, of its declared shape; external data is read from inside `folder`.

    Raises ConfigError: an unknown type, a negative dimension, more or fewer bytes than the shape needs,
    external data that is missing or lies outside `folder`.
    """
    what = f"{where}: tensor '{proto.name}'"
    dtype = dtype_of(proto.data_type, what)
    shape = tuple(proto.dims)
    if any(size < 0 for size in shape):
        raise ConfigError(f"{what}: expected dimensions of 0 or more, found {list(shape)}")
    count = math.prod(shape)
    if proto.data_location == TensorProto.EXTERNAL:
        data = _external(proto, count * dtype.itemsize, folder, what)
    elif proto.HasField("raw_data"):
        data = proto.raw_data
    else:
        return _listed(proto, dtype, count, what).reshape(shape)
    if len(data) != count * dtype.itemsize:
        raise ConfigError(
            f"{what}: expected {count * dtype.itemsize} bytes for {dtype} {list(shape)}, found {len(data)}"
        )
    if not data:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


def _listed(proto: TensorProto, dtype: torch.dtype, count: int, what: str) -> torch.Tensor:
    values = np.asarray(getattr(proto, _LISTS.get(proto.data_type, "int32_data")))
    if len(values) != count:
        raise ConfigError(f"{what}: expected {count} values for shape {list(proto.dims)}, found {len(values)}")
    if proto.data_type in _BITS_16:
        return torch.from_numpy(values.astype(np.uint16)).view(dtype)
    if proto.data_type in (TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64):
        return torch.from_numpy(values.astype(str(dtype).removeprefix("torch.")))
    return torch.from_numpy(values).to(dtype)


def _external(proto: TensorProto, size: int, folder: Path, what: str) -> bytes:
    entries = {entry.key: entry.value for entry in proto.external_data}
    path = inside(folder, entries.get("location", ""), f"{what}: external data")
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(size)))
    except ValueError as error:
        raise ConfigError(f"{what}: external data: expected an integer offset and length: {error}") from error
    available = path.stat().st_size
    if offset < 0 or length != size or offset + length > available:
        raise ConfigError(
            f"{what}: external data: expected {size} bytes, "
            f"found {length} at offset {offset} of {path.name}, which has {available}"
        )
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)
