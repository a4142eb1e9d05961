"""The protocol's tensor datatypes: numpy dtype, item size, typed field and ModelConfig enum of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from stagemesh.errors import InvalidInput
from stagemesh.oip import open_inference_pb2 as pb


@dataclass(frozen=True, slots=True)
class Datatype:
    """One tensor datatype of the protocol.

    `dtype` is little-endian (object, holding bytes, for BYTES); `item_size` is in bytes, 0 for BYTES, whose
    elements vary; `typed_field` is the field of InferTensorContents, empty where only raw contents exist;
    `config_type` is the value of ModelConfig's DataType.
    """

    name: str
    dtype: np.dtype[Any]
    item_size: int
    typed_field: str
    config_type: pb.DataType


def _datatype(name: str, dtype: Any, typed_field: str, config_type: pb.DataType) -> Datatype:
    found = np.dtype(dtype)
    return Datatype(name, found, 0 if found.hasobject else found.itemsize, typed_field, config_type)


BYTES = "BYTES"

DATATYPES: dict[str, Datatype] = {
    datatype.name: datatype
    for datatype in (
        _datatype("BOOL", "?", "bool_contents", pb.TYPE_BOOL),
        _datatype("UINT8", "u1", "uint_contents", pb.TYPE_UINT8),
        _datatype("UINT16", "<u2", "uint_contents", pb.TYPE_UINT16),
        _datatype("UINT32", "<u4", "uint_contents", pb.TYPE_UINT32),
        _datatype("UINT64", "<u8", "uint64_contents", pb.TYPE_UINT64),
        _datatype("INT8", "i1", "int_contents", pb.TYPE_INT8),
        _datatype("INT16", "<i2", "int_contents", pb.TYPE_INT16),
        _datatype("INT32", "<i4", "int_contents", pb.TYPE_INT32),
        _datatype("INT64", "<i8", "int64_contents", pb.TYPE_INT64),
        _datatype("FP16", "<f2", "", pb.TYPE_FP16),
        _datatype("BF16", ml_dtypes.bfloat16, "", pb.TYPE_BF16),
        _datatype("FP32", "<f4", "fp32_contents", pb.TYPE_FP32),
        _datatype("FP64", "<f8", "fp64_contents", pb.TYPE_FP64),
        _datatype(BYTES, object, "bytes_contents", pb.TYPE_STRING),
    )
}

_BY_DTYPE = {datatype.dtype: datatype for datatype in DATATYPES.values()}


def datatype_of(dtype: np.dtype[Any]) -> Datatype:
    """The datatype that carries `dtype`, of either byte order; object, bytes and str dtypes are BYTES.

    Raises InvalidInput where the protocol has none, as for complex numbers and dates.
    """
    if dtype.kind in "OSU":
        return DATATYPES[BYTES]
    found = _BY_DTYPE.get(dtype.newbyteorder("<"))
    if found is None:
        raise InvalidInput(f"expected an array of dtype {_names(_BY_DTYPE)}, bytes or str, got {dtype}")
    return found


def find_datatype(name: str, where: str) -> Datatype:
    """The datatype called `name`; InvalidInput, starting with `where`, if there is none."""
    found = DATATYPES.get(name)
    if found is None:
        raise InvalidInput(f"{where}: expected a datatype of {_names(DATATYPES)}, got {name!r}")
    return found


def _names(things: Any) -> str:
    return ", ".join(str(thing) for thing in things)
