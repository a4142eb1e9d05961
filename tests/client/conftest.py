"""Servers of another process, and both clients behind one face."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stagemesh import AsyncClient, Client

SERVER = Path(__file__).parent / "oip_server.py"


class AnyClient:
    """Awaits every method, in a thread where the client is the blocking one."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def call(*args: object, **options: object) -> Any:
            if inspect.iscoroutinefunction(method):
                return await method(*args, **options)
            return await asyncio.to_thread(method, *args, **options)

        return call


def serve(*arguments: str) -> Iterator[str]:
    command = [sys.executable, str(SERVER), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """`host:port` of a ready server."""
    yield from serve()


@pytest.fixture(scope="session")
def unready_server() -> Iterator[str]:
    """`host:port` of a server that stays NOT_SERVING."""
    yield from serve("not-ready")


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
async def connect(request: pytest.FixtureRequest) -> Any:
    """Makes clients of one kind, closed after the test."""
    made: list[AnyClient] = []

    def make(target: str, **options: Any) -> AnyClient:
        made.append(AnyClient(request.param(target, **options)))
        return made[-1]

    yield make
    for client in made:
        await client.close()
