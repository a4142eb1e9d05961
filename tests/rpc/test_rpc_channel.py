"""Balancing, retries and reconnection between real servers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest

from stagemesh.errors import InvalidInput, Overloaded, RemoteFailure, StagemeshError, Unavailable
from stagemesh.rpc.channel import MAX_MESSAGE_BYTES, aio_channel, channel_options, sync_channel
from stagemesh.rpc.server import Server, server_options
from stagemesh.rpc.status import UNREACHABLE, from_rpc_error
from stagemesh.settings import ServiceSettings
from tests.rpc.echo_mesh import Answer, echo_process, method, running
from tests.rpc.tiny_dns import TinyDns

TENSOR = bytes(4_915_200)  # 1 x 3 x 640 x 640 FP32


def named(name: str) -> Answer:
    async def answer(_: bytes) -> bytes:
        return name.encode()

    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def who_answers(unary: Any, calls: int = 40) -> Counter[str]:
    return Counter([(await unary(b"x")).decode() for _ in range(calls)])


async def until(unary: Any, condition: Callable[[Counter[str]], bool], seconds: float) -> float:
    """Seconds until four calls in a row satisfy `condition`."""
    started = time.monotonic()
    while not condition(await who_answers(unary, 4)):
        assert time.monotonic() - started < seconds, "the condition was not met in time"
        await asyncio.sleep(0.05)
    return time.monotonic() - started


@pytest.mark.parametrize("client", ["aio", "sync"])
async def test_a_request_of_a_tensors_size_is_retried(client: str) -> None:
    attempts = []

    async def answer(data: bytes) -> bytes:
        attempts.append(len(data))
        if len(attempts) < 3:
            raise Unavailable("loading")
        return b"served"

    async with running(answer) as server:
        target = f"127.0.0.1:{server.port}"
        if client == "aio":
            async with aio_channel(target) as channel:
                assert await method(channel)(TENSOR) == b"served"
        else:
            with sync_channel(target) as blocking:
                assert await asyncio.to_thread(method(blocking), TENSOR) == b"served"
    assert attempts == [len(TENSOR)] * 3


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (Unavailable("loading"), 5),
        (Unavailable("the hop behind", reason=UNREACHABLE), 1),
        (RemoteFailure("passed on", status="UNAVAILABLE"), 1),
        (Overloaded("queue full"), 1),
        (InvalidInput("wrong"), 1),
    ],
)
async def test_only_what_another_replica_may_serve_is_retried(error: StagemeshError, attempts: int) -> None:
    made = 0

    async def answer(_: bytes) -> bytes:
        nonlocal made
        made += 1
        raise error

    async with running(answer) as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await method(channel)(b"x")
    assert made == attempts


async def test_nobody_listening_is_soon_unavailable() -> None:
    target = f"ipv4:127.0.0.1:{free_port()}"
    async with aio_channel(target) as channel:
        started = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel)(b"x")
        assert time.monotonic() - started < 25  # some tenths of a second on a machine that is not busy
    error = from_rpc_error(caught.value, "infer", target)
    assert isinstance(error, Unavailable)
    assert str(error).startswith(f"stage 'infer' at {target} is out of reach: ")


async def test_a_server_that_is_not_ready_gets_no_call() -> None:
    async with contextlib.AsyncExitStack() as stack:
        servers: list[Server] = [await stack.enter_async_context(running(named(name))) for name in "ab"]
        target = "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
        unary = method(await stack.enter_async_context(aio_channel(target)))
        await until(unary, lambda seen: len(seen) == 2, 10)
        assert await who_answers(unary) == {"a": 20, "b": 20}
        servers[0].set_ready(False)
        await asyncio.sleep(0.2)
        assert await who_answers(unary) == {"b": 40}
        servers[0].set_ready(True)
        await until(unary, lambda seen: len(seen) == 2, 10)


async def test_a_replica_that_appears_later_gets_calls_soon() -> None:
    late = free_port()
    async with running(named("first")) as first:
        target = f"ipv4:127.0.0.1:{first.port},127.0.0.1:{late}"
        async with aio_channel(target) as channel:
            unary = method(channel)
            assert await who_answers(unary) == {"first": 40}
            await asyncio.sleep(1.5)
            async with running(named("late"), port=late):
                waited = await until(unary, lambda seen: seen["late"] > 0, 10)
    print(f"a late replica was found after {waited:.1f} s")


async def test_a_name_that_gains_an_address_sends_it_calls_soon() -> None:
    port = free_port()
    ages: dict[str, Any] = {"port": port, "max_connection_age_s": 0.5}
    with TinyDns("127.0.0.1", "127.0.0.2") as dns:
        async with contextlib.AsyncExitStack() as stack:
            for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
                await stack.enter_async_context(running(named(host), host=host, **ages))
            channel = aio_channel(f"dns://127.0.0.1:{dns.port}/replicas.mesh.test:{port}")
            unary = method(await stack.enter_async_context(channel))
            await until(unary, lambda seen: len(seen) == 2, 10)
            dns.addresses = (*dns.addresses, "127.0.0.3")
            waited = await until(unary, lambda seen: seen["127.0.0.3"] > 0, 20)
    print(f"a new address was found after {waited:.1f} s and {dns.questions} questions")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_request_fails_when_one_of_two_servers_ends(number: signal.Signals) -> None:
    with (
        echo_process(replica="a", answer_s=0.5) as (ending, first),
        echo_process(replica="b", answer_s=0.5) as (_, second),
    ):
        async with aio_channel(f"ipv4:127.0.0.1:{first},127.0.0.1:{second}") as channel:
            unary = method(channel)
            await until(unary, lambda seen: len(seen) == 2, 20)
            calls = [asyncio.ensure_future(unary(bytes(100_000 + index))) for index in range(100)]
            await asyncio.sleep(0.3)
            ending.send_signal(number)
            later = []
            while ending.poll() is None:
                later.append(asyncio.ensure_future(unary(bytes(7))))
                await asyncio.sleep(0.02)
            answers = [answer.decode() for answer in await asyncio.gather(*calls)]
            assert [answer.split()[1] for answer in answers] == [str(100_000 + n) for n in range(100)]
            assert {answer.decode().split()[1] for answer in await asyncio.gather(*later)} <= {"7"}
            assert {(await unary(b"x")).decode()} == {"b 1"}
            assert ending.returncode == (0 if number is signal.SIGTERM else -signal.SIGKILL)


def test_a_server_allows_the_pings_of_a_channel() -> None:
    client, server = dict(channel_options()), dict(server_options(ServiceSettings()))
    interval = server["grpc.http2.min_ping_interval_without_data_ms"]
    assert int(interval) < int(client["grpc.keepalive_time_ms"])
    assert client["grpc.keepalive_permit_without_calls"] == server["grpc.keepalive_permit_without_calls"] == 1


def test_grpc_knows_every_option() -> None:
    known = Path(str(import_module("grpc._cython.cygrpc").__file__)).read_bytes()
    names = {name for name, _ in (*channel_options(), *server_options(ServiceSettings()))}
    assert [name for name in sorted(names) if name.encode() not in known] == []


def test_a_channel_keeps_a_whole_message_for_retries() -> None:
    options = dict(channel_options(64 << 20))
    assert options["grpc.per_rpc_retry_buffer_size"] == options["grpc.max_send_message_length"] == 64 << 20
    assert ServiceSettings().max_message_bytes == MAX_MESSAGE_BYTES
