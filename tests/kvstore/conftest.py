"""One private Redis for the tests of the pool; each test has a namespace of its own in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from tests.support.redis_server import redis_server


class Time:
    """Milliseconds that move when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[str]:
    with redis_server() as server:
        yield str(server.socket_path)


@pytest.fixture
async def redis(redis_socket: str) -> AsyncIterator[Redis]:
    client = Redis(unix_socket_path=redis_socket)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def time() -> Time:
    return Time()
