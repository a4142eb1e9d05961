"""The codec against itself and against the clients' own protobuf classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.datatypes import DATATYPES
from stagemesh.oip.messages import (
    InferRequest,
    InferResponse,
    decode_stream_response,
    encode_stream_response,
)
from stagemesh.oip.tensors import Parameter, Tensor

from .foreign import KSERVE, TRITON, foreign_class
from .strategies import arrays, requests, responses, same

CLIENTS = [TRITON, KSERVE]
TYPED = sorted(name for name, datatype in DATATYPES.items() if datatype.typed_field)


@given(requests)
def test_request_round_trip(request: InferRequest) -> None:
    assert InferRequest.decode(request.encode()) == request


@given(responses)
def test_response_round_trip(response: InferResponse) -> None:
    assert InferResponse.decode(response.encode()) == response


@given(responses.map(InferResponse.encode), st.text(max_size=9))
def test_stream_response_round_trip(response: bytes, error: str) -> None:
    assert decode_stream_response(encode_stream_response(response)) == (response, "")
    assert decode_stream_response(encode_stream_response(error=error)) == (b"", error)


@given(requests)
def test_request_is_what_triton_writes(request: InferRequest) -> None:
    message: Any = foreign_class(TRITON, "ModelInferRequest").FromString(request.encode())
    assert_same(message, request, message.inputs, request.inputs, message.raw_input_contents)
    assert [output.name for output in message.outputs] == list(request.outputs)
    assert InferRequest.decode(message.SerializeToString()) == request


@given(responses)
def test_response_is_what_triton_writes(response: InferResponse) -> None:
    message: Any = foreign_class(TRITON, "ModelInferResponse").FromString(response.encode())
    assert_same(message, response, message.outputs, response.outputs, message.raw_output_contents)
    assert InferResponse.decode(message.SerializeToString()) == response


def assert_same(message: Any, ours: Any, theirs: Any, tensors: dict[str, Tensor], raws: Any) -> None:
    assert (message.model_name, message.model_version, message.id) == (
        ours.model_name,
        ours.model_version,
        ours.id,
    )
    values = {name: getattr(p, p.WhichOneof("parameter_choice")) for name, p in message.parameters.items()}
    assert values == ours.parameters
    found = [(t.name, t.datatype, tuple(t.shape), raw) for t, raw in zip(theirs, raws, strict=True)]
    assert found == [(name, t.datatype, t.shape, bytes(t.raw)) for name, t in tensors.items()]


def typed_message(client: str, kind: str, name: str, array: np.ndarray[Any, Any]) -> Message:
    """A client's request or response with one tensor as typed contents."""
    message: Any = foreign_class(client, f"ModelInfer{kind.title()}")()
    tensor = message.inputs.add() if kind == "request" else message.outputs.add()
    tensor.name, tensor.datatype = "x", name
    tensor.shape.extend(array.shape)
    getattr(tensor.contents, DATATYPES[name].typed_field).extend(array.ravel().tolist())
    found: Message = message
    return found


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", TYPED)
@given(data=st.data())
def test_typed_contents(client: str, name: str, data: st.DataObject) -> None:
    array = data.draw(arrays(name))
    request = InferRequest.decode(typed_message(client, "request", name, array).SerializeToString())
    response = InferResponse.decode(typed_message(client, "response", name, array).SerializeToString())
    if array.dtype.kind == "f":
        # Signalling NaNs don't survive Python's floats.
        assert np.array_equal(request.inputs["x"].numpy(), array, equal_nan=True)
    else:
        assert same(request.inputs["x"].numpy(), array)
    assert request.inputs == response.outputs


@pytest.mark.parametrize("name", sorted(DATATYPES))
def test_no_contents_for_no_elements(name: str) -> None:
    message: Any = foreign_class(TRITON, "ModelInferResponse")()
    message.outputs.add(name="x", datatype=name, shape=[0, 2])
    output = InferResponse.decode(message.SerializeToString()).outputs["x"]
    assert output == Tensor(name, (0, 2), b"")


def test_parameters_keep_their_types() -> None:
    values: dict[str, Parameter] = {"a": True, "b": 1, "c": 1.0, "d": "1", "e": 2**63, "f": -(2**63), "g": False}
    found = InferRequest.decode(InferRequest("m", {}, parameters=values).encode()).parameters
    assert {name: (type(value), value) for name, value in found.items()} == {
        name: (type(value), value) for name, value in values.items()
    }


def test_raw_contents_are_views() -> None:
    array = np.arange(12, dtype="<i4")
    data = InferRequest("m", {"x": Tensor.from_numpy(array)}).encode()
    view = InferRequest.decode(data).inputs["x"].numpy()
    assert np.shares_memory(view, np.frombuffer(data, np.uint8))
    assert same(view, array)


def test_fields_in_any_order_and_unknown_ones() -> None:
    request = InferRequest("m", {"x": Tensor("UINT8", (1,), b"1"), "y": Tensor("UINT8", (2,), b"23")}, id="i")
    raw = b"\x3a\x011", b"\x3a\x0223"
    header = request.encode().removesuffix(raw[0] + raw[1])
    unknown = b"\xf8\x07\x01" + b"\xfd\x07abcd" + b"\xf9\x07abcdefgh" + b"\xfa\x07\x02hi"
    assert InferRequest.decode(raw[0] + header + unknown + raw[1]) == request


def test_parts_of_a_streamed_response_are_merged() -> None:
    parts = encode_stream_response(b"\x0a\x01m") + encode_stream_response(b"\x1a\x01i")
    assert InferResponse.decode(decode_stream_response(parts)[0]) == InferResponse("m", {}, id="i")


def test_odd_characters_in_an_error_do_not_lose_it() -> None:
    assert decode_stream_response(encode_stream_response(error="no \udcff"))[1] == "no ?"


def test_the_error_of_a_stream_names_its_request() -> None:
    response, error = decode_stream_response(encode_stream_response(error="no", id="i"))
    assert (pb.ModelInferResponse.FromString(response), error) == (pb.ModelInferResponse(id="i"), "no")
