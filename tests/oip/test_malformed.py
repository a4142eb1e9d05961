"""Whatever is wrong with a message ends as InvalidInput or Unsupported, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from stagemesh.errors import InvalidInput, StagemeshError, Unsupported
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.messages import InferRequest, InferResponse, decode_stream_response
from stagemesh.oip.tensors import Tensor
from stagemesh.oip.wire import MAX_FIELDS

from .strategies import requests, responses


def request(**tensor: Any) -> pb.ModelInferRequest:
    """A request with input x, FP32 [2], without contents unless given."""
    values = {"name": "x", "datatype": "FP32", "shape": [2], **tensor}
    return pb.ModelInferRequest(model_name="m", inputs=[pb.ModelInferRequest.InferInputTensor(**values)])


def typed(datatype: str, **contents: Any) -> pb.ModelInferRequest:
    return request(datatype=datatype, contents=pb.InferTensorContents(**contents))


def raw(message: pb.ModelInferRequest, *entries: bytes) -> pb.ModelInferRequest:
    message.raw_input_contents.extend(entries)
    return message


def twice(name: str) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype="UINT8", shape=[1])
    return raw(pb.ModelInferRequest(inputs=[tensor, tensor]), b"1", b"2")


def with_parameter(name: str, *, of: str) -> pb.ModelInferRequest:
    message = raw(request(), b"12345678")
    message.outputs.add(name="y")
    target = {"input": message.inputs[0], "output": message.outputs[0], "request": message}[of]
    target.parameters[name].SetInParent()
    return message


MALFORMED = [
    (raw(typed("FP32", fp32_contents=[1, 2]), b"12345678"), "'x': expected raw or typed contents, got both"),
    (raw(request(), b"12345678", b""), "expected 1 raw_input_contents, one for each input, got 2"),
    (raw(pb.ModelInferRequest(), b""), "expected 0 raw_input_contents, one for each input, got 1"),
    (raw(request(datatype="FLOAT"), b""), "'x': expected a datatype of BOOL, .*, got 'FLOAT'"),
    (raw(request(shape=[-2]), b""), r"'x': expected a shape without negative dimensions, got \[-2\]"),
    (raw(request(shape=[2**62, 4]), b""), "'x': expected a shape of less than"),
    (raw(request(), b"1234567"), r"'x': byte size mismatch for FP32 \[2\]: expected 8, got 7"),
    (raw(request(datatype="BYTES"), b"\1\0\0\0a"), "'x': expected 2 BYTES elements, got 1"),
    (raw(request(datatype="BOOL"), b"\0\7"), "'x': expected BOOL elements of 0 or 1, got 7"),
    (twice("a"), "'a': expected each name once, got it twice"),
    (request(), r"'x': expected 2 elements for \[2\], got 0"),
    (request(datatype="nope"), "got 'nope'"),
    (request(shape=[2**62, 4]), "less than"),
    (typed("FP32", fp32_contents=[1]), r"'x': expected 2 elements for \[2\], got 1"),
    (typed("FP32", int_contents=[1, 2]), "'x': expected fp32_contents for FP32, got int_contents"),
    (typed("INT8", int_contents=[1, 2], bool_contents=[True]), "expected int_contents for INT8, got bool"),
    (typed("FP16", fp32_contents=[1, 2]), "'x': expected raw contents, as FP16 has no typed ones, got fp32"),
    (typed("BF16", fp32_contents=[1, 2]), "'x': expected raw contents, as BF16 has no typed ones"),
    (typed("FP16"), "expected 2 elements"),
    (typed("UINT8", uint_contents=[1, 300]), "'x': expected UINT8 elements from 0 to 255, got 300"),
    (typed("UINT16", uint_contents=[1, 2**16]), "from 0 to 65535, got 65536"),
    (typed("INT8", int_contents=[-129, 0]), "from -128 to 127, got -129"),
    (typed("INT16", int_contents=[0, 2**15]), "from -32768 to 32767, got 32768"),
    (with_parameter("k", of="request"), "parameter 'k': expected a bool, .*, got no value"),
]


@pytest.mark.parametrize(("message", "words"), MALFORMED)
def test_malformed_request(message: pb.ModelInferRequest, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        InferRequest.decode(message.SerializeToString())


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("shared_memory_region", "input"),
        ("shared_memory_byte_size", "input"),
        ("shared_memory_region", "output"),
        ("classification", "output"),
    ],
)
def test_what_is_not_offered(name: str, of: str) -> None:
    with pytest.raises(Unsupported, match=name):
        InferRequest.decode(with_parameter(name, of=of).SerializeToString())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0a\x05m", "field 1 ends at byte 7 of 3"),
        (b"\x3a\x05m", "field 7 ends at byte 7 of 3"),
        (b"\x3a", "expected a varint before byte 1 of 1"),
        (b"\x3a" + b"\xff" * 11, "expected a varint before byte 11"),
        (b"\x3a" + b"\xff" * 9 + b"\x7f", "expected a varint"),
        (b"\x38\x01", "expected bytes in field 7, got wire type 0"),
        (b"\x3dabcd", "expected bytes in field 7, got wire type 5"),
        (b"\x00\x00", "field number 0 at byte 0"),
        (b"\x80\x80\x80\x80\x10\x01", "field number 536870912"),
        (b"\x3b\x3c", "wire type 3"),
        (b"\x0f", "wire type 7"),
        (b"\x09abc", "ends at byte 9 of 4"),
        (b"\x0a\x01\xff", "malformed ModelInferRequest"),
        (b"\x2a\x03\x0a\x01\xff", "malformed ModelInferRequest"),
        (b"\x2a\x02\x0a\x05", "malformed ModelInferRequest"),
        (b"\x3a\x00" * (MAX_FIELDS + 1), f"at most {MAX_FIELDS} fields"),
    ],
)
def test_malformed_wire(data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        InferRequest.decode(data)


def test_malformed_stream_response() -> None:
    for data in (b"\x10\x01", b"\x0a\x01\xff", b"\x12\x01"):
        with pytest.raises(InvalidInput):
            decode_stream_response(data)


def test_duplicate_and_missing_outputs() -> None:
    tensor = pb.ModelInferResponse.InferOutputTensor(name="y", datatype="UINT8", shape=[1])
    message = pb.ModelInferResponse(outputs=[tensor, tensor], raw_output_contents=[b"1", b"2"])
    with pytest.raises(InvalidInput, match="output 'y': expected each name once"):
        InferResponse.decode(message.SerializeToString())
    with pytest.raises(InvalidInput, match="output 'y': expected 1 elements"):
        InferResponse.decode(pb.ModelInferResponse(outputs=[tensor]).SerializeToString())


def test_encode_beyond_the_largest_message() -> None:
    large = Tensor.from_numpy(np.zeros(2**31 - 1, np.uint8))
    for message in (InferRequest("m", {"x": large}), InferResponse("m", {"x": large})):
        with pytest.raises(InvalidInput, match="at most 2147483647 bytes, got 21474836"):
            message.encode()


@pytest.mark.parametrize(
    "message",
    [
        InferRequest("m", {"x": Tensor("FP32", (2,), b"")}),
        InferRequest("m", {"x": Tensor("FP31", (0,), b"")}),
        InferRequest("\ud800", {}),
        InferRequest("m", {}, outputs=("\ud800",)),
        InferRequest("m", {}, parameters={"a": 2**64}),
        InferRequest("m", {}, parameters={"a": -(2**63) - 1}),
        InferRequest("m", {}, parameters={"a": b"bytes"}),  # type: ignore[dict-item]
        InferRequest("m", {}, parameters={"a": "\ud800"}),
        InferResponse("m", {"\ud800": Tensor("FP32", (0,), b"")}),
    ],
)
def test_encode_refuses(message: InferRequest | InferResponse) -> None:
    with pytest.raises(InvalidInput):
        message.encode()


@st.composite
def mutated(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    """An encoded message with some bytes replaced, cut out or put in."""
    data = bytearray(draw(messages))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 3)))
        data[start:stop] = draw(st.binary(max_size=3))
    return bytes(data)


def assert_decodes_or_refuses(decode: Callable[[bytes], Any], message: Any, data: bytes) -> None:
    """Only our own errors leave `decode`, and what it accepts protobuf accepts and numpy can hold."""
    try:
        found = decode(data)
    except (InvalidInput, Unsupported) as error:
        assert str(error)
        return
    try:
        message.FromString(data)
    except DecodeError as error:
        raise AssertionError(f"decoded what protobuf refuses: {data!r}") from error
    tensors = found.inputs if isinstance(found, InferRequest) else found.outputs
    for tensor in tensors.values():
        assert tensor.numpy().shape == tensor.shape
    again = decode(found.encode())
    assert (again.inputs if isinstance(again, InferRequest) else again.outputs) == tensors


@settings(max_examples=400)
@given(mutated(requests.map(InferRequest.encode)) | st.binary(max_size=60))
def test_mutated_request(data: bytes) -> None:
    assert_decodes_or_refuses(InferRequest.decode, pb.ModelInferRequest, data)


@settings(max_examples=400)
@given(mutated(responses.map(InferResponse.encode)) | st.binary(max_size=60))
def test_mutated_response(data: bytes) -> None:
    assert_decodes_or_refuses(InferResponse.decode, pb.ModelInferResponse, data)


typed_requests = st.builds(
    typed,
    st.sampled_from(["BOOL", "UINT8", "INT32", "FP16", "FP64", "BYTES"]),
    bool_contents=st.lists(st.booleans(), max_size=3),
    uint_contents=st.lists(st.integers(0, 300), max_size=3),
    bytes_contents=st.lists(st.binary(max_size=3), max_size=3),
).map(pb.ModelInferRequest.SerializeToString)


@settings(max_examples=400)
@given(typed_requests | mutated(typed_requests))
def test_mutated_typed_request(data: bytes) -> None:
    assert_decodes_or_refuses(InferRequest.decode, pb.ModelInferRequest, data)


@given(st.binary(max_size=40))
def test_arbitrary_stream_response(data: bytes) -> None:
    try:
        decode_stream_response(data)
    except StagemeshError as error:
        assert isinstance(error, InvalidInput)
