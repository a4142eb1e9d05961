"""Both clients behind one face, and servers to connect them to."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stagemesh import AsyncClient, Client
from tests.client.servers import serve


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


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """`host:port` of a ready server."""
    with serve() as address:
        yield address


@pytest.fixture(scope="session")
def unready_server() -> Iterator[str]:
    """`host:port` of a server that stays NOT_SERVING."""
    with serve("not-ready") as address:
        yield address


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
