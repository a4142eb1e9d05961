"""Protobuf's wire format, so far as to find and append the large fields that bypass protobuf."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stagemesh.errors import InvalidInput

MAX_MESSAGE = 2**31 - 1
"""Bytes that one protobuf message may have."""

# Bounds the work and memory that a message of many tiny fields can ask for.
MAX_FIELDS = 8192

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a message: [start, end) with its tag, its payload from `payload` on."""

    number: int
    wire_type: int
    start: int
    payload: int
    end: int


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The varint at `position` and the position behind it; InvalidInput if cut off or above 64 bits."""
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, position
        shift += 7
    raise InvalidInput(f"malformed protobuf message: expected a varint before byte {position} of {len(data)}")


def write_varint(value: int) -> bytes:
    """The bytes of a varint; `value` is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data: bytes) -> Iterator[Field]:
    """The top-level fields in order; InvalidInput if malformed, cut off or above MAX_FIELDS."""
    if len(data) > MAX_MESSAGE:
        raise InvalidInput(f"expected a message of at most {MAX_MESSAGE} bytes, got {len(data)}")
    position = 0
    for _ in range(MAX_FIELDS):
        if position == len(data):
            return
        start = position
        tag, position = read_varint(data, start)
        payload, position = _payload(data, tag & 7, position)
        if not 0 < tag >> 3 < 2**29:
            raise InvalidInput(f"malformed protobuf message: field number {tag >> 3} at byte {start}")
        if position > len(data):
            raise InvalidInput(f"malformed protobuf message: field {tag >> 3} ends at byte {position} of {len(data)}")
        yield Field(tag >> 3, tag & 7, start, payload, position)
    if position < len(data):
        raise InvalidInput(f"expected a message of at most {MAX_FIELDS} fields, got more")


def _payload(data: bytes, wire_type: int, position: int) -> tuple[int, int]:
    """Start and end of the payload whose tag ends at `position`."""
    if wire_type == LENGTH:
        length, position = read_varint(data, position)
        return position, position + length
    if wire_type == VARINT:
        return position, read_varint(data, position)[1]
    if wire_type in (FIXED32, FIXED64):
        return position, position + (4 if wire_type == FIXED32 else 8)
    raise InvalidInput(f"malformed protobuf message: wire type {wire_type} before byte {position}")


def check_length(field: Field) -> None:
    """Raises InvalidInput unless the field is a length-delimited one: bytes, string or message."""
    if field.wire_type != LENGTH:
        raise InvalidInput(
            f"malformed protobuf message: expected bytes in field {field.number}, got wire type {field.wire_type}"
        )


def split_message(data: bytes, number: int) -> tuple[bytes, list[memoryview]]:
    """The message without the bytes field `number`, and that field's entries as views into `data`."""
    view = memoryview(data)
    header: list[memoryview] = []
    entries: list[memoryview] = []
    kept = 0
    for field in fields(data):
        if field.number == number:
            check_length(field)
            header.append(view[kept : field.start])
            entries.append(view[field.payload : field.end])
            kept = field.end
    if not entries:
        return data, entries
    header.append(view[kept:])
    return b"".join(header), entries


def encodable(text: str) -> str:
    """`text` with a question mark for what UTF-8 can't carry: half of a surrogate pair."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def join_message(header: bytes, number: int, entries: Iterable[bytes | memoryview]) -> bytes:
    """`header` with the entries of bytes field `number` appended; InvalidInput above MAX_MESSAGE bytes."""
    parts: list[bytes | memoryview] = [header]
    for entry in entries:
        parts += (write_varint(number << 3 | LENGTH) + write_varint(len(entry)), entry)
    size = sum(len(part) for part in parts)
    if size > MAX_MESSAGE:
        raise InvalidInput(f"expected a message of at most {MAX_MESSAGE} bytes, got {size}")
    return b"".join(parts)
