"""Requests that take long to decode leave the event loop free; those that don't take no detour."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from stagemesh.errors import InvalidInput
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.decoding import LIGHT_ELEMENTS, decode_request
from stagemesh.oip.messages import MAX_HEADER, InferRequest
from stagemesh.oip.tensors import MAX_ELEMENTS, Tensor


def of(tensor: Tensor) -> bytes:
    return InferRequest("m", {"x": tensor}).encode()


def typed(datatype: str, count: int, **contents: object) -> bytes:
    message = pb.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="x", datatype=datatype, shape=[count])
    tensor.contents.CopyFrom(pb.InferTensorContents(**contents))  # type: ignore[arg-type]
    return message.SerializeToString()


def at_once(data: bytes) -> bool:
    """Whether the request is decoded without leaving the event loop."""

    async def run() -> bool:
        decoding = asyncio.ensure_future(decode_request(data))
        await asyncio.sleep(0)
        done = decoding.done()
        assert await decoding == InferRequest.decode(data)
        return done

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (of(Tensor.from_numpy(np.zeros(4 << 20, np.uint8))), True),
        (of(Tensor.from_numpy(np.zeros((2, 3, 500, 500), np.float32))), True),
        (of(Tensor("BYTES", (1,), (4 << 20).to_bytes(4, "little") + bytes(4 << 20))), True),
        (of(Tensor("BYTES", (LIGHT_ELEMENTS,), bytes(4 * LIGHT_ELEMENTS))), True),
        (of(Tensor("BYTES", (LIGHT_ELEMENTS + 1,), bytes(4 * LIGHT_ELEMENTS + 4))), False),
        (typed("UINT8", 100, uint_contents=[255] * 100), True),
        (typed("UINT8", 100_000, uint_contents=[255] * 100_000), False),
    ],
)
def test_only_what_takes_long_goes_to_a_thread(data: bytes, expected: bool) -> None:
    assert at_once(data) is expected


@pytest.mark.parametrize(
    "data",
    [
        of(Tensor("BYTES", (MAX_ELEMENTS,), bytes(4 * MAX_ELEMENTS))),
        typed("UINT8", 1 << 21, uint_contents=[200] * (1 << 21)),
        typed("FP32", 1 << 20, fp32_contents=[0.5] * (1 << 20)),
    ],
    ids=["elements", "UINT8", "FP32"],
)
async def test_the_event_loop_goes_on(data: bytes) -> None:
    decoding = asyncio.ensure_future(decode_request(data))
    turns = 0
    while not decoding.done():
        await asyncio.sleep(0)
        turns += 1
    await decoding
    assert turns > 5


@pytest.mark.parametrize("count", [MAX_ELEMENTS + 1, 4 << 20, 2**59])
async def test_too_many_elements_are_refused_before_they_are_read(count: int) -> None:
    data = of(Tensor("BYTES", (count,), b""))
    with pytest.raises(InvalidInput, match=f"input 'x': expected at most 1048576 BYTES elements, got {count}"):
        await decode_request(data)


def test_too_many_typed_elements_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 1048576 BYTES elements, got 1048577"):
        InferRequest.decode(typed("BYTES", MAX_ELEMENTS + 1, bytes_contents=[b""] * (MAX_ELEMENTS + 1)))


async def test_too_large_typed_contents_are_refused() -> None:
    data = typed("BYTES", 1, bytes_contents=[bytes(MAX_HEADER)])
    with pytest.raises(InvalidInput, match=f"at most {MAX_HEADER} bytes beside the raw contents"):
        await decode_request(data)


async def test_errors_of_a_thread_are_those_of_decode() -> None:
    data = typed("UINT8", 100_000, uint_contents=[255] * 99_999 + [256])
    with pytest.raises(InvalidInput, match="input 'x': expected UINT8 elements from 0 to 255, got 256"):
        await decode_request(data)
