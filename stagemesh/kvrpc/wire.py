"""Blocks on the wire of Get and Put: found and appended by hand, so that protobuf never copies them."""

from __future__ import annotations

import ctypes
from typing import TypeVar

from google.protobuf.message import DecodeError

from stagemesh.errors import InvalidInput
from stagemesh.oip.wire import LENGTH, check_length, fields, join_message, read_varint, write_varint
from stagemesh.v1 import kvstore_pb2 as pb

Buffer = bytes | bytearray | memoryview
# Where the content of a bytes object begins; a zero ends it.
_BYTES_OFFSET = bytes.__basicsize__ - 1
_new_bytes = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.restype = ctypes.py_object
_new_bytes.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)

M = TypeVar("M", pb.Miss, pb.PutPlan)

_INDEX_TAG = write_varint(pb.GetResponse.INDEX_FIELD_NUMBER << 3)
_GET_VALUE_TAG = write_varint(pb.GetResponse.VALUE_FIELD_NUMBER << 3 | LENGTH)
_PUT_VALUE_TAG = write_varint(pb.PutRequest.VALUE_FIELD_NUMBER << 3 | LENGTH)


def value_frame(index: int, size: int) -> tuple[bytes, memoryview]:
    """A GetResponse for block `index`, and the part of it where the value of `size` bytes is still to be written.

    A value that is read to where it is sent from is copied once less. Nobody else may see the message before, and it
    must outlive the view, which doesn't hold it.
    """
    head = _INDEX_TAG + write_varint(index) + _GET_VALUE_TAG + write_varint(size)
    length = len(head) + size
    # As C extensions make bytes: allocated, filled by their maker, unchanged from then on.
    message: bytes = _new_bytes(None, length)
    view = memoryview((ctypes.c_char * length).from_address(id(message) + _BYTES_OFFSET)).cast("B")
    view[: len(head)] = head
    return message, view[len(head) :]


def miss_response(index: int, reason: str, detail: str) -> bytes:
    """A GetResponse that says why block `index` can't be had."""
    return pb.GetResponse(index=index, miss=pb.Miss(reason=reason, detail=detail)).SerializeToString()


def read_get_response(data: bytes) -> tuple[int, memoryview | pb.Miss]:
    """The index of a GetResponse, and its value, a view into `data`, or its miss. Raises InvalidInput."""
    index = 0
    outcome: memoryview | pb.Miss | None = None
    for field in fields(data):
        if field.number == pb.GetResponse.INDEX_FIELD_NUMBER:
            index = read_varint(data, field.payload)[0]
        elif field.number == pb.GetResponse.VALUE_FIELD_NUMBER:
            check_length(field)
            outcome = memoryview(data)[field.payload : field.end]
        elif field.number == pb.GetResponse.MISS_FIELD_NUMBER:
            outcome = _parsed(pb.Miss, data[field.payload : field.end])
    if outcome is None:
        raise InvalidInput("GetResponse: expected a value or a miss, found neither")
    return index, outcome


def value_request(header: bytes, payload: Buffer) -> bytes:
    """A PutRequest with a block's value: its header and its payload, C-contiguous bytes."""
    view = memoryview(payload).cast("B")
    return b"".join((_PUT_VALUE_TAG, write_varint(len(header) + len(view)), header, view))


def plan_request(plan: pb.PutPlan) -> bytes:
    """The PutRequest that comes first."""
    return join_message(b"", pb.PutRequest.PLAN_FIELD_NUMBER, [plan.SerializeToString()])


def read_put_request(data: bytes) -> pb.PutPlan | memoryview:
    """The plan, or the value, a view into `data`. Raises InvalidInput."""
    part: pb.PutPlan | memoryview | None = None
    for field in fields(data):
        check_length(field)
        if field.number == pb.PutRequest.PLAN_FIELD_NUMBER:
            part = _parsed(pb.PutPlan, data[field.payload : field.end])
        elif field.number == pb.PutRequest.VALUE_FIELD_NUMBER:
            part = memoryview(data)[field.payload : field.end]
    if part is None:
        raise InvalidInput("PutRequest: expected a plan or a value, found neither")
    return part


def _parsed(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidInput(f"malformed {kind.DESCRIPTOR.name}: {error}") from error
