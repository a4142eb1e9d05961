"""Mutated requests: bytes turned over, and messages changed where a stage looks."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from google.protobuf.message import DecodeError

from stagemesh.oip import open_inference_pb2 as pb

Mutate = Callable[[random.Random, pb.ModelInferRequest], None]

NAMES = ("", "image", "logits", "meta.size", "meta.transform", "meta.", "\0", "ü" * 300, "labels")
DATATYPES = ("", "BYTES", "UINT8", "FP32", "FP16", "BF16", "INT32", "BOOL", "FP8", "fp32", "UINT64")
DIMENSIONS = (-(2**63), -1, 0, 1, 2, 3, 16, 17, 320, 1001, 2**31, 2**32 + 1, 2**62, 2**63 - 1)
PARAMETERS = (
    *("priority", "timeout", "stagemesh_route", "stagemesh_route_done", "sequence_id", "x"),
    *("top_k", "score_threshold", "iou_threshold"),
)
NUMBERS = (-(2**63), -1, 0, 1, 5, 10, 11, 16, 17, 2**31, 2**63 - 1)
ROUTES = ("infer", "infer,postprocess", "postprocess", "gateway", ",,", "infer,infer", "preprocess,infer", "é")
FLOATS = (float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e-45, -0.0)


def mutated(rng: random.Random, seed: bytes) -> bytes:
    """A request that is `seed` with one to three things changed."""
    data = seed
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = _mutated_fields(rng, data) if rng.random() < 0.7 else mutated_bytes(rng, data)
    return data


def mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    """`data` with bytes flipped, cut off, left out, doubled, or written over with an extreme number."""
    if not data:
        return rng.randbytes(rng.randrange(16))
    at = _position(rng, len(data))
    match rng.randrange(6):
        case 0:
            return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + data[at + rng.randint(1, 8) :]
        case 3:
            return data[:at] + data[at : at + rng.randint(1, 64)] * 2 + data[at:]
        case 4:
            size = rng.randint(1, 8)
            return data[:at] + rng.choice((b"\xff", b"\0", b"\x80")) * size + data[at + size :]
    return data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:]


def _position(rng: random.Random, size: int) -> int:
    """Half of the time among the first bytes, where headers are."""
    return rng.randrange(min(size, 64) if rng.random() < 0.5 else size)


def _mutated_fields(rng: random.Random, data: bytes) -> bytes:
    message = pb.ModelInferRequest()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return mutated_bytes(rng, data)
    rng.choice(_MUTATIONS)(rng, message)
    return message.SerializeToString()


def _change_contents(rng: random.Random, message: pb.ModelInferRequest) -> None:
    """Bytes of a tensor: of an image inside its framing, or of numbers."""
    for index, raw in enumerate(message.raw_input_contents):
        if index < len(message.inputs) and message.inputs[index].datatype == "BYTES":
            image = _mutated_image(rng, raw[4:])
            message.raw_input_contents[index] = struct.pack("<I", len(image)) + image
        elif message.inputs and message.inputs[0].datatype == "FP32":
            message.raw_input_contents[index] = _with_odd_float(rng, raw)
        else:
            message.raw_input_contents[index] = mutated_bytes(rng, raw)


def _mutated_image(rng: random.Random, image: bytes) -> bytes:
    if image[1:4] == b"PNG" and len(image) > 33 and rng.random() < 0.3:
        header = bytearray(image[12:29])
        header[rng.randrange(4, 17)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        return image[:12] + bytes(header) + struct.pack(">I", zlib.crc32(header)) + image[33:]
    for _ in range(rng.randint(1, 4)):
        image = mutated_bytes(rng, image)
    return image


def _with_odd_float(rng: random.Random, raw: bytes) -> bytes:
    values = np.frombuffer(raw[: len(raw) // 4 * 4], np.float32).copy()
    if values.size:
        values[rng.randrange(values.size)] = rng.choice(FLOATS)
    return values.tobytes()


def _change_shape(rng: random.Random, message: pb.ModelInferRequest) -> None:
    for tensor in message.inputs:
        match rng.randrange(3):
            case 0 if tensor.shape:
                tensor.shape[rng.randrange(len(tensor.shape))] = rng.choice(DIMENSIONS)
            case 1:
                tensor.shape.extend(rng.choices(DIMENSIONS, k=rng.choice((1, 2, 70))))
            case _:
                del tensor.shape[rng.randrange(len(tensor.shape) + 1) :]


def _change_datatype(rng: random.Random, message: pb.ModelInferRequest) -> None:
    for tensor in message.inputs:
        tensor.datatype = rng.choice(DATATYPES)


def _change_name(rng: random.Random, message: pb.ModelInferRequest) -> None:
    if rng.random() < 0.3:
        message.model_name, message.model_version = rng.choice(NAMES), rng.choice(("", "1", "2", "-1", "x"))
    elif rng.random() < 0.3:
        message.outputs.add().name = rng.choice(NAMES)
    else:
        for tensor in message.inputs:
            tensor.name = rng.choice(NAMES)


def _change_inputs(rng: random.Random, message: pb.ModelInferRequest) -> None:
    match rng.randrange(5):
        case 0:
            del message.inputs[:]
        case 1:
            del message.raw_input_contents[:]
        case 2 if message.inputs:
            message.inputs.append(message.inputs[0])
            message.raw_input_contents.extend(message.raw_input_contents[:1])
        case 3 if message.inputs:
            message.inputs[0].contents.fp32_contents.extend(FLOATS)
        case _:
            message.raw_input_contents.append(rng.randbytes(rng.randrange(32)))


def _change_parameters(rng: random.Random, message: pb.ModelInferRequest) -> None:
    parameter = message.parameters[rng.choice(PARAMETERS)]
    match rng.randrange(6):
        case 0:
            parameter.bool_param = True
        case 1:
            parameter.string_param = rng.choice(ROUTES)
        case 2:
            parameter.double_param = rng.choice(FLOATS)
        case 3:
            parameter.uint64_param = 2**64 - 1
        case 4:
            parameter.int64_param = rng.choice(NUMBERS)
        case _:
            parameter.Clear()


_MUTATIONS: Sequence[Mutate] = (
    _change_contents,
    _change_contents,
    _change_contents,
    _change_shape,
    _change_datatype,
    _change_name,
    _change_inputs,
    _change_parameters,
    _change_parameters,
)
