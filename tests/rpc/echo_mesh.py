"""A small service to test servers and channels with, and the means to run it in this process or another."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from stagemesh.errors import StagemeshError
from stagemesh.rpc.context import Identity
from stagemesh.rpc.server import Server
from stagemesh.rpc.streams import answering
from stagemesh.settings import ServiceSettings
from stagemesh.telemetry import Metrics

SERVICE = "mesh.test.Echo"
IDENTITY = Identity("echo", "replica-1")
Answer = Callable[[bytes], Awaitable[bytes]]


async def echo(data: bytes) -> bytes:
    return data


def echo_handler(answer: Answer = echo, parse: Callable[[bytes], Any] | None = None) -> grpc.GenericRpcHandler:
    """All four kinds of RPC, each message answered by `answer`; `Each` takes each message of a stream as a request."""

    async def unary(request: bytes, _: object) -> bytes:
        return await answer(request)

    async def split(request: bytes, _: object) -> AsyncIterator[bytes]:
        for part in request.split(b" "):
            yield await answer(part)

    async def join(requests: AsyncIterator[bytes], _: object) -> bytes:
        return b" ".join([await answer(request) async for request in requests])

    async def stream(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for request in requests:
            yield await answer(request)

    async def each(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for request in requests:
            try:
                with answering():
                    response = await answer(request)
            except StagemeshError as error:
                response = f"error: {error}".encode()
            yield response

    methods: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary, parse),
        "Split": grpc.unary_stream_rpc_method_handler(split),
        "Join": grpc.stream_unary_rpc_method_handler(join),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
        "Each": grpc.stream_stream_rpc_method_handler(each),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def free_settings(**values: Any) -> ServiceSettings:
    """Settings on free ports, with a short drain."""
    return ServiceSettings(**{"port": 0, "http_port": 0, "drain_s": 0.2, "max_message_mib": 16} | values)


@contextlib.asynccontextmanager
async def running(
    answer: Answer = echo, *, handler: grpc.GenericRpcHandler | None = None, **values: Any
) -> AsyncIterator[Server]:
    """A ready server in this process."""
    server = Server(IDENTITY, free_settings(**values), Metrics("echo"), [handler or echo_handler(answer)])
    await server.start()
    server.set_ready(True)
    try:
        yield server
    finally:
        await server.stop()


def sample(server: Server, name: str, **labels: str) -> float:
    """The value of a metric of the server."""
    return server._metrics.registry.get_sample_value(name, {"stage": "echo", **labels}) or 0.0


def method(channel: Any, name: str = "Unary", kind: str = "unary_unary") -> Any:
    return getattr(channel, kind)(f"/{SERVICE}/{name}")


@contextlib.contextmanager
def echo_process(**values: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A ready server in a process of its own, and its port; it is gone afterwards."""
    command = [sys.executable, "-m", "tests.rpc.echo_main", json.dumps(values)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()
