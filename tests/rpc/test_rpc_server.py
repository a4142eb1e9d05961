"""Start, limits, health, reflection and drain of a real server."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
import urllib.error
import urllib.request
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from stagemesh.errors import ConfigError
from stagemesh.oip.open_inference_pb2 import POOL
from stagemesh.oip.service import SERVICE_NAME, OipServicer, oip_handler
from stagemesh.rpc.channel import aio_channel, sync_channel
from stagemesh.rpc.server import Server
from stagemesh.telemetry import Metrics
from tests.rpc.echo_mesh import IDENTITY, SERVICE, echo_handler, echo_process, free_settings, method, running

MIB = 1 << 20
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health_call(channel: Any, name: str, kind: str = "unary_unary") -> Any:
    return getattr(channel, kind)(
        f"/grpc.health.v1.Health/{name}",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )


async def status_of(channel: grpc.aio.Channel, service: str) -> int:
    answer = await health_call(channel, "Check")(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


@pytest.mark.parametrize("which", ["port", "http_port"])
async def test_a_port_in_use_is_an_error_that_names_the_address(which: str) -> None:
    async with running() as first:
        taken = getattr(first, which)
        second = Server(IDENTITY, free_settings(**{which: taken}), Metrics("echo"), [echo_handler()])
        with pytest.raises(ConfigError, match=f"127.0.0.1:{taken} for .*: Address already in use"):
            await second.start()


async def test_a_host_that_is_not_ours_is_an_error() -> None:
    server = Server(IDENTITY, free_settings(host="192.0.2.1"), Metrics("echo"), [echo_handler()])
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:0 for HTTP: Cannot assign"):
        await server.start()


async def test_listening_beyond_loopback_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with running():
        pass
    assert "TLS" not in caplog.text
    async with running(host="0.0.0.0"):
        pass
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert ["without TLS" in record.getMessage() for record in warnings] == [True]


async def test_health_follows_readiness_and_liveness_does_not() -> None:
    async with running() as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for ready, status in ((True, SERVING), (False, NOT_SERVING)):
            server.set_ready(ready)
            assert await status_of(channel, "") == status
            assert await status_of(channel, SERVICE) == status
            assert await status_of(channel, "liveness") == SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="found 'nobody'") as caught:
            await status_of(channel, "nobody")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watchers_hear_of_changes_after_another_watcher_left() -> None:
    async with running() as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watch = health_call(channel, "Watch", "unary_stream")
        leaving, staying = (watch(health_pb2.HealthCheckRequest()) for _ in range(2))
        assert (await leaving.read()).status == (await staying.read()).status == SERVING
        leaving.cancel()
        await asyncio.sleep(0.1)
        server.set_ready(False)
        assert (await asyncio.wait_for(staying.read(), 5)).status == NOT_SERVING


async def test_reflection_lists_and_describes_every_service() -> None:
    methods = dict.fromkeys(OipServicer.__abstractmethods__)
    async with running(handler=oip_handler(type("Servicer", (OipServicer,), methods)())) as server:
        found = await asyncio.to_thread(_reflected, f"127.0.0.1:{server.port}")
    expected = {method.name for method in POOL.FindServiceByName(SERVICE_NAME).methods}
    assert found[SERVICE_NAME] == expected
    assert found["grpc.health.v1.Health"] >= {"Check", "Watch"}
    assert found["grpc.reflection.v1alpha.ServerReflection"] == {"ServerReflectionInfo"}


def _reflected(target: str) -> dict[str, set[str]]:
    """The method names of each service that `target` lists, described through reflection alone."""
    with sync_channel(target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        return {
            name: {method.name for method in pool.FindServiceByName(name).methods} for name in database.get_services()
        }


@pytest.mark.parametrize("size_mib", [15, 17])
async def test_a_message_above_the_cap_is_refused(size_mib: int) -> None:
    async with running() as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        call = method(channel)(bytes(size_mib * MIB))
        if size_mib <= 16:
            assert len(await call) == size_mib * MIB
            return
        with pytest.raises(grpc.aio.AioRpcError, match=f"larger than max .{17 * MIB} vs. {16 * MIB}") as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_bomb_is_refused_before_it_fills_memory(algorithm: grpc.Compression) -> None:
    with echo_process() as (process, port), sync_channel(f"127.0.0.1:{port}", 1024 * MIB) as channel:
        unary = method(channel)
        assert unary(bytes(MIB), compression=algorithm, timeout=30) == b"replica 1048576"
        memory = psutil.Process(process.pid).memory_info
        before = memory().rss
        call = unary.future(bytes(400 * MIB), compression=algorithm, timeout=60)
        peak = before
        while not call.done():
            peak = max(peak, memory().rss)
            time.sleep(0.005)
        assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in call.details()
        print(f"{algorithm.name}: peak +{(peak - before) / MIB:.0f} MiB")
        assert peak - before < 80 * MIB
        assert unary(b"still", timeout=30) == b"replica 5"


async def test_drain_finishes_what_is_in_flight_and_frees_the_ports() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def answer(data: bytes) -> bytes:
        entered.set()
        await release.wait()
        return data

    async with running(answer) as server:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        watch = health_call(channel, "Watch", "unary_stream")(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        call = asyncio.ensure_future(method(channel)(b"x"))
        await entered.wait()
        drain = asyncio.create_task(server.drain())
        assert (await watch.read()).status == NOT_SERVING
        with pytest.raises(urllib.error.HTTPError, match="503"):
            await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{server.http_port}/readyz")
        server.set_ready(True)
        await asyncio.sleep(0.4)
        assert not drain.done()
        release.set()
        assert await call == b"x"
        await asyncio.wait_for(drain, 10)
        for port in (server.port, server.http_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        await channel.close()


async def test_an_idle_stream_does_not_hold_up_a_drain() -> None:
    async with running() as server, aio_channel(f"127.0.0.1:{server.port}") as channel:
        stream = method(channel, "Stream", "stream_stream")()
        await stream.write(b"one")
        assert await stream.read() == b"one"
        await asyncio.wait_for(server.drain(), 10)
        with pytest.raises(grpc.aio.AioRpcError, match="draining") as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_sigterm_drains_and_exits_0() -> None:
    with echo_process(answer_s=1.0) as (process, port), sync_channel(f"127.0.0.1:{port}") as channel:
        call = method(channel).future(b"x")
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert call.result(timeout=10) == b"replica 1"
        assert process.wait(timeout=10) == 0


def test_a_second_signal_stops_at_once() -> None:
    with echo_process(answer_s=30.0) as (process, port), sync_channel(f"127.0.0.1:{port}") as channel:
        call = method(channel).future(b"x", wait_for_ready=False)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 0
        call.cancel()


async def test_a_second_server_takes_no_share_of_a_port() -> None:
    async with running() as first:
        stock = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
        with pytest.raises(RuntimeError, match="Failed to bind"):
            stock.add_insecure_port(f"127.0.0.1:{first.port}")
