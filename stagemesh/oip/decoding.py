"""Decoding requests beside an event loop: what takes long goes to a thread, so that the loop goes on."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from math import prod

from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.datatypes import BYTES
from stagemesh.oip.messages import InferRequest, parse_request, split_request
from stagemesh.oip.tensors import MAX_RANK

# Decoded in about a millisecond; beyond, a hop to a thread costs little beside the decoding.
LIGHT_HEADER = 16 << 10
LIGHT_ELEMENTS = 4096

# Decoding holds the interpreter's lock most of the time: more threads would only take turns with the event loop.
_threads = ThreadPoolExecutor(2, thread_name_prefix="decode")


async def decode_request(data: bytes) -> InferRequest:
    """As InferRequest.decode; raw contents of a fixed item size, whatever theirs, are never worth a thread."""
    loop = asyncio.get_running_loop()
    header, entries = split_request(data)
    if len(header) > LIGHT_HEADER:
        return await loop.run_in_executor(_threads, InferRequest.decode, data)
    message = parse_request(header)
    if _elements(message) > LIGHT_ELEMENTS:
        return await loop.run_in_executor(_threads, InferRequest.read, message, entries)
    return InferRequest.read(message, entries)


def _elements(message: pb.ModelInferRequest) -> int:
    """How many BYTES elements the shapes promise; a shape of too many dimensions is refused before its elements."""
    shapes = (tensor.shape for tensor in message.inputs if tensor.datatype == BYTES)
    return sum(prod(shape) for shape in shapes if len(shape) <= MAX_RANK)
