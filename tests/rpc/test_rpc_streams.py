"""Streams: what counts is the requests in them, not how many are open."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest

from stagemesh.errors import InvalidInput, RemoteFailure
from stagemesh.rpc.channel import aio_channel
from stagemesh.rpc.context import call_model
from stagemesh.rpc.status import from_rpc_error
from tests.rpc.echo_mesh import method, running, sample

KINDS = ["Stream", "Each"]


class Gate:
    """Answers what it is asked, `wait` only once opened; `bad` and `bug` raise."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, data: bytes) -> bytes:
        if data == b"bad":
            call_model.set("classify")
            raise InvalidInput("expected better")
        if data == b"bug":
            raise ZeroDivisionError("oh")
        if data == b"wait":
            self.waiting.set()
            await self.opened.wait()
        return data


@pytest.mark.parametrize("name", KINDS)
async def test_idle_streams_shut_nobody_out(name: str) -> None:
    async with running(max_in_flight=1) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        streams = [method(channel, name, "stream_stream")() for _ in range(4)]
        for stream in streams:
            await stream.write(b"one")
            assert await stream.read() == b"one"
        assert await method(channel)(b"x", timeout=10) == b"x"
        assert sample(server, "stagemesh_in_flight") == 0


async def test_a_streamed_request_has_a_place_while_it_is_answered() -> None:
    gate = Gate()
    async with running(gate, max_in_flight=1) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        first, second = (method(channel, "Each", "stream_stream")() for _ in range(2))
        await first.write(b"wait")
        await asyncio.wait_for(gate.waiting.wait(), 10)
        assert sample(server, "stagemesh_in_flight") == 1
        with pytest.raises(grpc.aio.AioRpcError, match="at most 1 requests in flight"):
            await method(channel)(b"x")
        await second.write(b"x")
        assert b"at most 1 requests in flight" in await second.read()
        assert sample(server, "stagemesh_failures_total", model="", reason="TOO_MANY_IN_FLIGHT") == 2
        gate.opened.set()
        assert await first.read() == b"wait"
        await second.write(b"x")
        assert await second.read() == b"x"


async def test_an_upload_has_a_place_while_it_is_worked_on() -> None:
    gate = Gate()
    async with running(gate, max_in_flight=1) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        upload = method(channel, "Join", "stream_unary")()
        await upload.write(b"one")
        assert await method(channel)(b"x", timeout=10) == b"x"
        await upload.write(b"wait")
        await asyncio.wait_for(gate.waiting.wait(), 10)
        with pytest.raises(grpc.aio.AioRpcError, match="at most 1 requests in flight"):
            await method(channel)(b"x")
        gate.opened.set()
        await upload.done_writing()
        assert await upload == b"one wait"
        assert sample(server, "stagemesh_in_flight") == 0


@pytest.mark.parametrize("name", KINDS)
async def test_a_stream_that_is_idle_for_long_is_ended(name: str) -> None:
    async with running(stream_idle_s=0.3) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        stream = method(channel, name, "stream_stream")()
        await stream.write(b"one")
        assert await stream.read() == b"one"
        with pytest.raises(grpc.aio.AioRpcError, match=r"nothing was asked in the stream for 0\.3 s") as caught:
            await asyncio.wait_for(stream.read(), 10)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        error = from_rpc_error(caught.value, "echo", "here")
        assert isinstance(error, RemoteFailure)
        assert error.reason == "IDLE_STREAM"


@pytest.mark.parametrize("name", KINDS)
async def test_a_stream_whose_answer_takes_long_is_not_idle(name: str) -> None:
    gate = Gate()
    async with running(gate, stream_idle_s=0.2) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        stream = method(channel, name, "stream_stream")()
        await stream.write(b"wait")
        await asyncio.wait_for(gate.waiting.wait(), 10)
        await asyncio.sleep(0.6)
        gate.opened.set()
        assert await stream.read() == b"wait"


async def test_streams_are_bounded_in_number() -> None:
    async with running(max_in_flight=1) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        streams = [method(channel, "Each", "stream_stream")() for _ in range(8)]
        for stream in streams:
            await stream.write(b"one")
            assert await stream.read() == b"one"
        with pytest.raises(grpc.aio.AioRpcError, match="at most 8 open streams") as caught:
            await method(channel, "Each", "stream_stream")().read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await method(channel)(b"x", timeout=10) == b"x"


async def test_an_error_in_a_stream_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(Gate()) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        stream = method(channel, "Each", "stream_stream")()
        answers = []
        for request in (b"bad", b"bug", b"good"):
            await stream.write(request)
            answers.append(await stream.read())
        assert answers == [b"error: expected better", b"error: unexpected ZeroDivisionError: oh", b"good"]
        assert sample(server, "stagemesh_requests_total", model="classify", code="INVALID_ARGUMENT") == 1
        assert sample(server, "stagemesh_failures_total", model="classify", reason="INVALID_INPUT") == 1
        assert sample(server, "stagemesh_failures_total", model="classify", reason="UNEXPECTED") == 1
        assert sample(server, "stagemesh_requests_total", model="classify", code="OK") == 1
    lines = [record.getMessage() for record in caplog.records if "expected better" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("Each INVALID_ARGUMENT in ")
    assert "echo@replica-1: model 'classify': expected better" in lines[0]
