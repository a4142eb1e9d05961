"""Requests as they are on the wire, odd ones included, and what the mesh says of those it refuses."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.service import OipStub

ITEM_SIZES = {"UINT8": 1, "FP32": 4, "INT32": 4}


@dataclass(frozen=True)
class Refusal:
    """A failed call: status, details text, and the google.rpc.ErrorInfo that came along, if any."""

    code: grpc.StatusCode
    details: str
    info: error_details_pb2.ErrorInfo | None


def framed(*elements: bytes) -> bytes:
    """The raw contents of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def tensor(name: str, datatype: str, shape: Sequence[int], **typed: Any) -> pb.ModelInferRequest.InferInputTensor:
    """An input; `typed` is a field of its contents, such as `uint_contents=[…]`."""
    contents = pb.InferTensorContents(**typed) if typed else None
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, contents=contents)


def request(
    *inputs: pb.ModelInferRequest.InferInputTensor,
    raw: Iterable[bytes] = (),
    model: str = "classify",
    version: str = "",
    parameters: Mapping[str, str | int] = {},
) -> pb.ModelInferRequest:
    """A request of `inputs` with the entries of `raw`."""
    message = pb.ModelInferRequest(
        model_name=model, model_version=version, inputs=inputs, raw_input_contents=list(raw), id="7"
    )
    for key, value in parameters.items():
        setattr(message.parameters[key], "string_param" if isinstance(value, str) else "int64_param", value)
    return message


def photos(*encoded: bytes, **rest: Any) -> pb.ModelInferRequest:
    """A request for the gateway or the preprocess stage, one image for each encoded photo."""
    return request(tensor("image", "BYTES", [len(encoded)]), raw=[framed(*encoded)], **rest)


def zeros(name: str, datatype: str, *shape: int, **rest: Any) -> pb.ModelInferRequest:
    """A request with one input of zeros."""
    return request(tensor(name, datatype, shape), raw=[bytes(prod(shape) * ITEM_SIZES[datatype])], **rest)


def infer(
    target: str,
    message: pb.ModelInferRequest | bytes,
    request_id: str = "",
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> pb.ModelInferResponse:
    """ModelInfer over a channel of its own, without retries or a bound of its own on the size. Raises grpc.RpcError."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    metadata = (("x-request-id", request_id),) if request_id else ()
    options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    with grpc.insecure_channel(target, options=options) as channel:
        answer = OipStub(channel).ModelInfer(data, timeout=30, metadata=metadata, compression=compression)
    return pb.ModelInferResponse.FromString(answer)


def refusal(target: str, message: pb.ModelInferRequest | bytes, request_id: str = "", **how: Any) -> Refusal:
    """How ModelInfer refuses `message`; fails where it answers it."""
    try:
        answer = infer(target, message, request_id, **how)
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return Refusal(error.code(), error.details() or "", _error_info(error))
    raise AssertionError(f"expected an error, got {[output.name for output in answer.outputs]}")


def labels(response: pb.ModelInferResponse) -> list[bytes]:
    """The elements of the output `labels`, which is given raw."""
    raw = response.raw_output_contents[[output.name for output in response.outputs].index("labels")]
    found, position = [], 0
    while position < len(raw):
        (size,) = struct.unpack_from("<I", raw, position)
        found.append(raw[position + 4 : position + 4 + size])
        position += 4 + size
    return found


def _error_info(call: grpc.Call) -> error_details_pb2.ErrorInfo | None:
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info
    return None
