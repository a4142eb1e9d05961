"""Tensor: a datatype, a shape and the raw bytes of the wire, and its conversion from and to numpy."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from stagemesh.errors import InvalidInput
from stagemesh.oip.datatypes import BYTES, Datatype, datatype_of, find_datatype

Parameter = bool | int | float | str
"""A value of a request's, response's or model's parameters."""

Raw = bytes | memoryview

# Bounds of numpy's arrays.
MAX_RANK = 64
MAX_BYTES = 2**63 - 1

MAX_ELEMENTS = 1 << 20
"""Elements of a BYTES tensor: each costs time and memory beyond its bytes, of which it may have none."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as it is on the wire.

    `raw` is row-major, little-endian and without padding; a memoryview has format 'B'. A BYTES element is its
    length as 4 bytes, then its bytes. Nothing is checked here: `check` does, and so does every decode.
    """

    datatype: str
    shape: tuple[int, ...]
    raw: Raw

    @classmethod
    def from_numpy(cls, array: np.ndarray[Any, Any]) -> Tensor:
        """A tensor over the array's own memory where it is C-contiguous and little-endian, over a copy else.

        Arrays of objects (bytes or str), of bytes and of str become BYTES, str as UTF-8. Raises InvalidInput
        for any other object and for a dtype that the protocol lacks.
        """
        datatype = datatype_of(array.dtype)
        if datatype.name == BYTES:
            return cls(BYTES, array.shape, join_elements(_element(item) for item in array.ravel().tolist()))
        packed = np.asarray(array, dtype=datatype.dtype, order="C")
        # Through uint8: the buffer protocol has no format for bfloat16 and no cast for a zero in the shape.
        return cls(datatype.name, array.shape, packed.reshape(-1).view(np.uint8).data)

    def numpy(self) -> np.ndarray[Any, Any]:
        """A read-only array over `raw`, not copied, maybe unaligned; BYTES as an object array of bytes.

        Raises InvalidInput where datatype, shape and raw don't fit one another.
        """
        datatype = self.check_size("tensor")
        array: np.ndarray[Any, Any]
        if datatype.name == BYTES:
            elements = [bytes(element) for element in self.elements("tensor")]
            array = np.empty(len(elements), dtype=object)
            array[:] = elements
        else:
            self._check_bools("tensor")
            array = np.frombuffer(self.raw, datatype.dtype) if len(self.raw) else np.empty(0, datatype.dtype)
        array = array.reshape(self.shape)
        array.flags.writeable = False
        return array

    def elements(self, where: str) -> Iterator[memoryview]:
        """Views of a BYTES tensor's elements; InvalidInput, naming `where`, on broken framing."""
        return split_elements(memoryview(self.raw), prod(self.shape), where)

    def check(self, where: str) -> None:
        """Raises InvalidInput, its message starting with `where`, unless datatype, shape and raw fit."""
        if self.check_size(where).name == BYTES:
            element_ends(memoryview(self.raw), prod(self.shape), where)
        self._check_bools(where)

    def check_size(self, where: str) -> Datatype:
        """The datatype, after those checks that look at no element; raises InvalidInput as `check` does."""
        datatype = find_datatype(self.datatype, where)
        count = check_shape(self.shape, where)
        expected, found = count * datatype.item_size, len(self.raw)
        if datatype.item_size and expected != found:
            raise InvalidInput(
                f"{where}: byte size mismatch for {self.datatype} {list(self.shape)}: expected {expected}, got {found}"
            )
        return datatype

    def _check_bools(self, where: str) -> None:
        if self.datatype == "BOOL" and len(self.raw):
            largest = int(np.frombuffer(self.raw, np.uint8).max())
            if largest > 1:
                raise InvalidInput(f"{where}: expected BOOL elements of 0 or 1, got {largest}")


def check_shape(shape: tuple[int, ...], where: str) -> int:
    """The number of elements; InvalidInput for a negative dimension and for more than an array can have."""
    if len(shape) > MAX_RANK:
        raise InvalidInput(f"{where}: expected at most {MAX_RANK} dimensions, got {len(shape)}")
    if shape and min(shape) < 0:
        raise InvalidInput(f"{where}: expected a shape without negative dimensions, got {list(shape)}")
    # numpy bounds the shape with its zeros left out, and 8 bytes is the largest item.
    if prod(dimension or 1 for dimension in shape) * 8 > MAX_BYTES:
        raise InvalidInput(f"{where}: expected a shape of less than 2**60 elements, got {list(shape)}")
    return prod(shape)


def join_elements(elements: Iterable[bytes]) -> bytes:
    """The raw contents of a BYTES tensor: each element's length as 4 bytes, then its bytes."""
    parts: list[bytes] = []
    for element in elements:
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def split_elements(raw: memoryview, count: int, where: str) -> Iterator[memoryview]:
    """Views of the `count` elements that `raw` holds; raises as `element_ends` does."""
    start = 0
    for end in element_ends(raw, count, where):
        yield raw[start + 4 : end]
        start = end


def element_ends(raw: memoryview, count: int, where: str) -> list[int]:
    """Where in `raw` each of its `count` BYTES elements ends.

    Raises InvalidInput where they overrun it or leave a rest, and for more than MAX_ELEMENTS.
    """
    check_elements(count, where)
    position, size, length_at = 0, len(raw), _LENGTH.unpack_from
    ends: list[int] = []
    while len(ends) < count and position + 4 <= size:
        position += 4 + length_at(raw, position)[0]
        ends.append(position)
    if position > size:
        start = (ends[-2] if len(ends) > 1 else 0) + 4
        raise InvalidInput(
            f"{where}: expected {position - start} bytes for BYTES element {len(ends) - 1}, got {size - start}"
        )
    if len(ends) < count:
        raise InvalidInput(f"{where}: expected {count} BYTES elements, got {len(ends)} and {size - position} bytes")
    if position < size:
        raise InvalidInput(f"{where}: expected {count} BYTES elements, got {size - position} bytes after them")
    return ends


def check_elements(count: int, where: str) -> None:
    """Raises InvalidInput for more elements than a BYTES tensor may have."""
    if count > MAX_ELEMENTS:
        raise InvalidInput(f"{where}: expected at most {MAX_ELEMENTS} BYTES elements, got {count}")


def _element(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if not isinstance(item, str):
        raise InvalidInput(f"expected bytes or str as elements of a BYTES tensor, got {type(item).__name__}")
    try:
        return item.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"expected text that UTF-8 can carry in a BYTES tensor, got {item!r}") from error
