"""Typed contents (repeated protobuf fields) turned into the raw bytes that a Tensor holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from stagemesh.errors import InvalidInput
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.datatypes import BYTES, Datatype, find_datatype
from stagemesh.oip.tensors import check_elements, check_shape, join_elements

_PART = 1 << 15


def raw_contents(contents: pb.InferTensorContents, datatype: str, shape: tuple[int, ...], where: str) -> bytes:
    """The raw bytes of typed `contents` for a tensor of `datatype` and `shape`.

    Raises InvalidInput, its message starting with `where`, for a field that isn't the datatype's, a datatype
    that has none, a wrong number of elements and an element out of range.
    """
    found = find_datatype(datatype, where)
    count = check_shape(shape, where)
    values = _values(contents, found, where)
    if len(values) != count:
        raise InvalidInput(f"{where}: expected {count} elements for {list(shape)}, got {len(values)}")
    if found.name == BYTES:
        check_elements(count, where)
        return join_elements(values)
    return _packed(values, found, where)


def _values(contents: pb.InferTensorContents, datatype: Datatype, where: str) -> Any:
    """The datatype's own repeated field, or nothing where no field has elements."""
    for descriptor, values in contents.ListFields():
        if not datatype.typed_field:
            raise InvalidInput(
                f"{where}: expected raw contents, as {datatype.name} has no typed ones, got {descriptor.name}"
            )
        if descriptor.name != datatype.typed_field:
            raise InvalidInput(f"{where}: expected {datatype.typed_field} for {datatype.name}, got {descriptor.name}")
        return values
    return ()


def _packed(values: Any, datatype: Datatype, where: str) -> bytes:
    if datatype.dtype.kind not in "iu":
        return _array(values, datatype.dtype).tobytes()
    wide = _array(values, np.dtype(np.int64 if datatype.dtype.kind == "i" else np.uint64))
    bounds = np.iinfo(datatype.dtype)
    wrong = wide[(wide < bounds.min) | (wide > bounds.max)]
    if wrong.size:
        raise InvalidInput(
            f"{where}: expected {datatype.name} elements from {bounds.min} to {bounds.max}, got {wrong[0]}"
        )
    return wide.astype(datatype.dtype).tobytes()


def _array(values: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A repeated field as an array, in parts: numpy keeps the interpreter's lock while it reads one."""
    array = np.empty(len(values), dtype)
    for start in range(0, len(values), _PART):
        part = values[start : start + _PART]
        array[start : start + _PART] = np.fromiter(part, dtype, len(part))
    return array
