"""Errors, context, metrics and limits around calls of all four kinds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from stagemesh.errors import (
    InvalidInput,
    Origin,
    Overloaded,
    RemoteFailure,
    StageFailed,
    StagemeshError,
    UnknownModel,
    Unsupported,
)
from stagemesh.logs import configure_logging
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.service import OipServicer, OipStub, oip_handler
from stagemesh.rpc.channel import aio_channel
from stagemesh.rpc.context import Identity, call_context, call_model, outgoing_metadata, remaining
from stagemesh.rpc.server import Server
from stagemesh.rpc.status import from_rpc_error
from stagemesh.telemetry import Metrics
from tests.rpc.echo_mesh import echo_handler, free_settings, method, running, sample

KINDS = [
    ("Unary", "unary_unary"),
    ("Split", "unary_stream"),
    ("Join", "stream_unary"),
    ("Stream", "stream_stream"),
]


async def call(server: Server, name: str, kind: str, request: bytes, **options: Any) -> list[bytes]:
    """The messages that the RPC `name` of `server` answers."""

    async def requests() -> AsyncIterator[bytes]:
        yield request

    async with aio_channel(f"127.0.0.1:{server.port}") as channel:
        started = method(channel, name, kind)(requests() if kind.startswith("stream") else request, **options)
        return [part async for part in started] if kind.endswith("stream") else [await started]


async def counted(server: Server, code: str) -> None:
    """Wait until a call ended with `code`."""
    for _ in range(250):
        if sample(server, "stagemesh_requests_total", model="", code=code):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"no call was counted as {code}")


@pytest.mark.parametrize(("name", "kind"), KINDS)
async def test_every_kind_answers_and_is_counted(name: str, kind: str) -> None:
    async with running() as server:
        assert b" ".join(await call(server, name, kind, b"one two")) == b"one two"
        assert sample(server, "stagemesh_requests_total", model="", code="OK") == 1
        assert sample(server, "stagemesh_bytes_total", direction="in") == 7
        assert sample(server, "stagemesh_bytes_total", direction="out") in (6, 7)
        assert sample(server, "stagemesh_in_flight") == 0


@pytest.mark.parametrize(("name", "kind"), KINDS)
async def test_an_error_names_stage_replica_model_and_request(name: str, kind: str) -> None:
    async def answer(_: bytes) -> bytes:
        call_model.set("classify")
        raise InvalidInput("expected UINT8, found FP32")

    async with running(answer) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(server, name, kind, b"x", metadata=[("x-request-id", "r-1")])
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        text = "echo@replica-1: model 'classify': expected UINT8, found FP32 [request r-1]"
        assert caught.value.details() == text
        error = from_rpc_error(caught.value, "echo", "here")
        assert isinstance(error, RemoteFailure)
        assert error.origin == Origin("echo", "replica-1", "classify", "r-1")
        assert sample(server, "stagemesh_failures_total", model="classify", reason="INVALID_INPUT") == 1
        assert sample(server, "stagemesh_requests_total", model="classify", code="INVALID_ARGUMENT") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownModel("no"), grpc.StatusCode.NOT_FOUND),
        (Overloaded("no", retry_after_s=0.25), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Unsupported("no"), grpc.StatusCode.UNIMPLEMENTED),
        (StageFailed("no"), grpc.StatusCode.INTERNAL),
        (ZeroDivisionError("no"), grpc.StatusCode.INTERNAL),
        (RemoteFailure("no", status="DATA_LOSS"), grpc.StatusCode.DATA_LOSS),
    ],
)
async def test_each_error_has_its_code(error: Exception, code: grpc.StatusCode) -> None:
    async def answer(_: bytes) -> bytes:
        raise error

    async with running(answer) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(server, "Unary", "unary_unary", b"x")
        assert caught.value.code() is code
        passed_on = from_rpc_error(caught.value, "echo", "here")
        assert isinstance(passed_on, RemoteFailure)
        assert passed_on.retry_after_s == (0.25 if isinstance(error, Overloaded) else None)


async def test_an_unexpected_error_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(_: bytes) -> bytes:
        raise ZeroDivisionError("oh")

    async with running(answer) as server:
        with pytest.raises(grpc.aio.AioRpcError, match="unexpected ZeroDivisionError: oh"):
            await call(server, "Unary", "unary_unary", b"x")
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.ERROR)


async def test_an_aborted_call_keeps_the_status_it_chose() -> None:
    async def refuse(_: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        raise AssertionError("abort raises")

    methods: dict[str, Any] = {"Unary": grpc.unary_unary_rpc_method_handler(refuse)}
    handler = grpc.method_handlers_generic_handler("mesh.test.Echo", methods)
    async with running(handler=handler) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(server, "Unary", "unary_unary", b"x")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, "not you")
        await counted(server, "PERMISSION_DENIED")


async def test_bytes_that_are_no_message_are_the_callers_error() -> None:
    def parse(_: bytes) -> Any:
        raise DecodeError("truncated")

    async with running(handler=echo_handler(parse=parse)) as server:
        with pytest.raises(grpc.aio.AioRpcError, match="truncated") as caught:
            await call(server, "Unary", "unary_unary", b"\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("kind", [("Unary", "unary_unary"), ("Each", "stream_stream")])
async def test_cancelling_reaches_the_handler_and_is_counted(kind: tuple[str, str]) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def answer(_: bytes) -> bytes:
        entered.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    async with running(answer) as server:
        task = asyncio.create_task(call(server, *kind, b"x"))
        await asyncio.wait_for(entered.wait(), 10)
        assert sample(server, "stagemesh_in_flight") == 1
        task.cancel()
        await asyncio.wait_for(cancelled.wait(), 10)
        await counted(server, "CANCELLED")
        assert sample(server, "stagemesh_in_flight") == 0


async def test_an_idle_stream_that_is_cancelled_counts_as_cancelled() -> None:
    async with running() as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        stream = method(channel, "Stream", "stream_stream")()
        await stream.write(b"one")
        assert await stream.read() == b"one"
        stream.cancel()
        await counted(server, "CANCELLED")


@pytest.mark.parametrize(("name", "kind"), [*KINDS, ("Each", "stream_stream")])
async def test_a_call_that_ran_out_of_time_is_no_client_that_gave_up(name: str, kind: str) -> None:
    async def answer(_: bytes) -> bytes:
        await asyncio.sleep(60)
        return b""

    async with running(answer) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(server, name, kind, b"x", timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await counted(server, "DEADLINE_EXCEEDED")
        assert sample(server, "stagemesh_failures_total", model="", reason="DEADLINE_EXCEEDED")
        assert not sample(server, "stagemesh_requests_total", model="", code="CANCELLED")


@pytest.mark.parametrize("grace_s", [None, 0.2])
async def test_a_call_that_the_servers_stop_cancels_is_counted_as_that(grace_s: float | None) -> None:
    entered = asyncio.Event()

    async def answer(_: bytes) -> bytes:
        entered.set()
        await asyncio.sleep(60)
        return b""

    async with running(answer) as server:
        task = asyncio.create_task(call(server, "Unary", "unary_unary", b"x"))
        await asyncio.wait_for(entered.wait(), 10)
        await server.stop(grace_s)
        await counted(server, "UNAVAILABLE")
        assert sample(server, "stagemesh_failures_total", model="", reason="STOPPING") == 1
        assert not sample(server, "stagemesh_requests_total", model="", code="CANCELLED")
        with pytest.raises(grpc.aio.AioRpcError):
            await task


async def test_a_server_without_places_still_says_that_it_lives() -> None:
    entered = asyncio.Event()

    class Busy(OipServicer):
        """Answers no inference."""

        async def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
            return pb.ServerLiveResponse(live=True)

        async def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
            return pb.ServerMetadataResponse()

        async def model_infer(self, data: bytes) -> bytes:
            entered.set()
            await asyncio.sleep(60)
            return data

    handler = oip_handler(type("Servicer", (Busy,), dict.fromkeys(Busy.__abstractmethods__))())
    async with running(handler=handler, max_in_flight=1) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        stub = OipStub(channel)
        hanging = asyncio.ensure_future(stub.ModelInfer(b""))
        await asyncio.wait_for(entered.wait(), 10)
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        with pytest.raises(grpc.aio.AioRpcError, match="at most 1 requests in flight"):
            await stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=5)
        hanging.cancel()


async def test_a_server_on_a_free_port_goes_by_the_port_it_got(capsys: pytest.CaptureFixture[str]) -> None:
    async def answer(_: bytes) -> bytes:
        raise InvalidInput("no")

    settings = free_settings()
    identity = Identity.of(settings)
    before = logging.getLogger().handlers[:]
    configure_logging("info", "human", "echo", identity.replica)
    server = Server(identity, settings, Metrics("echo"), [echo_handler(answer)])
    await server.start()
    server.set_ready(True)
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(server, "Unary", "unary_unary", b"x")
    finally:
        await server.stop()
        logging.getLogger().handlers[:] = before
    error = from_rpc_error(caught.value, "echo", "here")
    assert isinstance(error, RemoteFailure)
    assert error.origin is not None
    assert error.origin.replica == f"127.0.0.1:{server.port}"
    assert f"echo@127.0.0.1:{server.port} [" in capsys.readouterr().err


async def test_the_handler_sees_request_id_trace_and_deadline() -> None:
    seen: list[Any] = []

    async def answer(data: bytes) -> bytes:
        seen.append((call_context.get(), outgoing_metadata(), remaining(5.0)))
        return data

    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    given = (("x-request-id", "abc 1"), ("traceparent", trace))
    async with running(answer, default_deadline_s=7.0) as server:
        await call(server, "Unary", "unary_unary", b"x", metadata=given, timeout=2.0)
        await call(server, "Unary", "unary_unary", b"x")
        await call(server, "Stream", "stream_stream", b"x")
    (first, passed_on, left), (second, made, default), (_, _, of_stream) = seen
    assert (first.request_id, first.traceparent, passed_on) == ("abc 1", trace, given)
    assert 1.0 < left <= 2.0
    assert 6.0 < default <= 7.0
    assert of_stream == 5.0
    assert made == (("x-request-id", second.request_id),)
    assert len(second.request_id) == 32


async def test_more_calls_than_allowed_are_refused_with_a_delay() -> None:
    release = asyncio.Event()

    async def answer(data: bytes) -> bytes:
        await release.wait()
        return data

    async with running(answer, max_in_flight=3) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        unary = method(channel)
        calls = [asyncio.create_task(_outcome(unary)) for _ in range(8)]
        for _, done in zip(range(5), asyncio.as_completed(calls), strict=False):
            assert isinstance(await done, grpc.RpcError)
        release.set()
        refused = [result for result in await asyncio.gather(*calls) if isinstance(result, grpc.RpcError)]
        assert len(refused) == 5
        error = from_rpc_error(refused[0], "echo", "here")
        assert isinstance(error, RemoteFailure)
        assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_IN_FLIGHT")
        assert error.retry_after_s == pytest.approx(0.1)


async def _outcome(unary: Any) -> bytes | grpc.RpcError:
    try:
        return bytes(await unary(b"x"))
    except grpc.RpcError as error:
        return error


async def test_health_is_neither_counted_nor_limited() -> None:
    async with running(max_in_flight=1) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        assert (await check(health_pb2.HealthCheckRequest())).status == 1
        metrics = server._metrics.registry
        assert metrics.get_sample_value("stagemesh_requests_total") is None


async def test_a_handler_is_wrapped_once() -> None:
    async with running() as server:
        details: Any = type("Details", (), {"method": "/mesh.test.Echo/Unary"})()
        inner = echo_handler().service(details)

        async def found(_: Any) -> Any:
            return inner

        wrapped = await server._interceptor.intercept_service(found, details)
        assert wrapped is not None
        assert wrapped is await server._interceptor.intercept_service(found, details)


def test_every_mapped_code_is_a_grpc_code() -> None:
    def below(cls: type[StagemeshError]) -> list[type[StagemeshError]]:
        return [cls, *(deeper for child in cls.__subclasses__() for deeper in below(child))]

    assert {cls.code for cls in below(StagemeshError)} <= {code.name for code in grpc.StatusCode}
