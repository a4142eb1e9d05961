"""Errors to statuses and back: nothing is wrapped twice, nothing grows beyond gRPC's metadata limit."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from stagemesh.errors import (
    DeadlineExceeded,
    InvalidInput,
    Origin,
    Overloaded,
    RemoteFailure,
    StagemeshError,
    Unavailable,
)
from stagemesh.rpc.channel import aio_channel, sync_channel
from stagemesh.rpc.status import MAX_TEXT_COST, clip, details_text, from_rpc_error, to_rpc_status
from tests.rpc.echo_mesh import IDENTITY, method, running

ORIGIN = Origin("infer", "h:8021", "classify", "r-1")


def aio_error(code: grpc.StatusCode, details: str = "", trailing: Any = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, trailing_metadata=grpc.aio.Metadata(*trailing), details=details)


def passed_on(error: StagemeshError, times: int = 1) -> StagemeshError:
    """The error as a caller `times` hops away sees it."""
    for hop in range(times):
        status = to_rpc_status(error, ORIGIN if hop == 0 else Origin(f"hop-{hop}", "other", "other", "other"))
        error = from_rpc_error(aio_error(status.code, status.details, status.metadata), "infer", "h:1")
    return error


def test_text_has_every_part() -> None:
    text = details_text(InvalidInput("expected 2, found 3"), ORIGIN)
    assert text == "infer@h:8021: model 'classify': expected 2, found 3 [request r-1]"
    assert details_text(InvalidInput("no"), Origin("infer", "h:8021")) == "infer@h:8021: no"


@pytest.mark.parametrize("hops", [1, 2, 5])
def test_an_error_passed_on_stays_what_it_was(hops: int) -> None:
    error = passed_on(Overloaded("queue full", retry_after_s=0.5), hops)
    assert isinstance(error, RemoteFailure)
    assert str(error) == "infer@h:8021: model 'classify': queue full [request r-1]"
    assert (error.status, error.reason, error.retry_after_s) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL", 0.5)
    assert error.origin == ORIGIN


def test_a_hop_out_of_reach_names_the_next_stage() -> None:
    error = from_rpc_error(aio_error(grpc.StatusCode.UNAVAILABLE, "refused"), "infer", "ipv4:h:1")
    assert isinstance(error, Unavailable)
    assert str(error) == "stage 'infer' at ipv4:h:1 is out of reach: refused"
    assert ("grpc-retry-pushback-ms", "-1") in to_rpc_status(error, ORIGIN).metadata


def test_no_answer_in_time_names_the_next_stage() -> None:
    error = from_rpc_error(aio_error(grpc.StatusCode.DEADLINE_EXCEEDED), "infer", "ipv4:h:1")
    assert isinstance(error, DeadlineExceeded)
    assert "'infer' at ipv4:h:1" in str(error)


@pytest.mark.parametrize("trailing", [(), (("grpc-status-details-bin", b"\xff\xff"),), (("other", "x"),)])
def test_a_foreign_error_is_described_as_that_stages(trailing: Any) -> None:
    error = from_rpc_error(aio_error(grpc.StatusCode.NOT_FOUND, "no model", trailing), "infer", "h:1")
    assert isinstance(error, RemoteFailure)
    assert (error.status, str(error), error.reason) == ("NOT_FOUND", "infer@h:1: no model", "NOT_FOUND")
    assert error.origin == Origin("infer", "h:1")
    assert to_rpc_status(error, ORIGIN).details == "infer@h:1: no model"


def test_a_bare_error_is_unknown() -> None:
    error = from_rpc_error(grpc.RpcError("odd"), "infer", "h:1")
    assert isinstance(error, RemoteFailure)
    assert (error.status, str(error)) == ("UNKNOWN", "infer@h:1: odd")


def test_only_an_own_unavailability_may_be_retried() -> None:
    own = to_rpc_status(Unavailable("loading"), ORIGIN)
    assert [key for key, _ in own.metadata] == ["grpc-status-details-bin"]
    remote = to_rpc_status(passed_on(Unavailable("loading")), ORIGIN)
    assert ("grpc-retry-pushback-ms", "-1") in remote.metadata


def test_clip_leaves_short_text_alone_and_cuts_the_middle() -> None:
    assert clip("a" * 100, 500) == "a" * 100
    assert clip("é" * 83, 500) == "é" * 83  # 6 bytes each
    cut = clip("start " + "é" * 10_000 + " end", 800)
    assert cut.startswith("start é")
    assert cut.endswith("é end")
    assert " [...] " in cut


@pytest.mark.parametrize("char", ["a", "é", "\n", "%", "\U0001f600"])
@pytest.mark.parametrize("client", ["aio", "sync"])
async def test_a_very_long_error_arrives_whole(char: str, client: str) -> None:
    long = char * 100_000

    async def answer(_: bytes) -> bytes:
        raise InvalidInput(f"{long} end")

    async with running(answer) as server:
        error = await _call(f"127.0.0.1:{server.port}", client)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = error.details()
    assert details.startswith(f"echo@{IDENTITY.replica}: {char}")
    assert "end [request " in details
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert status_pb2.Status.FromString(packed).message == details
    assert len(details) <= MAX_TEXT_COST


async def test_text_that_can_not_be_encoded_does_not_lose_the_error() -> None:
    async def answer(_: bytes) -> bytes:
        raise InvalidInput("found 'a\udcff'")

    async with running(answer) as server:
        found = await _call(f"127.0.0.1:{server.port}", "aio")
    assert found.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "found 'a?' [" in found.details()
    error = from_rpc_error(found, "echo", "here")
    assert isinstance(error, RemoteFailure)
    assert error.reason == "INVALID_INPUT"
    named = to_rpc_status(InvalidInput("no"), Origin("infer", "h:1", "\ud800", "r"))
    assert named.details == "infer@h:1: model '?': no [request r]"


async def test_a_very_long_model_name_does_not_lose_the_error() -> None:
    status = to_rpc_status(InvalidInput("no"), Origin("infer", "h" * 9000, "é" * 9000, "r" * 128))
    size = sum(len(key) + len(value) for key, value in status.metadata)
    assert size * 4 / 3 + MAX_TEXT_COST < 8000


async def _call(target: str, client: str) -> Any:
    if client == "aio":
        async with aio_channel(target) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(channel)(b"x")
            return caught.value
    with sync_channel(target) as blocking:
        future = method(blocking).future(b"x")
        assert isinstance(await asyncio.to_thread(future.exception), grpc.RpcError)
        return future
