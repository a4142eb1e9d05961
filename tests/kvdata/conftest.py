"""Real Redis servers: one for the session that is never disturbed, and data paths to it over each transport."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.connection import Limits
from stagemesh.kvdata.path import DataPath
from tests.support.redis_server import RedisServer, Tls, redis_cluster, redis_server

PASSWORD = "p@ss word/%"
ACL = ("--user", "kv", "on", f">{PASSWORD}", "~*", "-@all", "+get", "+set", "+asking", "+cluster|slots")
SHORT = Limits(timeout_s=0.3, connect_timeout_s=0.5)


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    """A plain server on TCP and a unix socket."""
    with redis_server() as running:
        yield running


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that asks for TLS, a client certificate and an ACL user; its unix socket has a default user."""
    with redis_server(*ACL, tls=Tls(tmp_path_factory.mktemp("tls"))) as running:
        yield running


@pytest.fixture(scope="session")
def cluster() -> Iterator[Sequence[RedisServer]]:
    """A cluster of three masters."""
    with redis_cluster() as nodes:
        yield nodes


def as_user(url: str) -> str:
    """A URL that signs in as the ACL user."""
    return url.replace("://", "://kv:p%40ss%20word%2F%25@")


@pytest.fixture(params=["tcp", "unix", "tls", "cluster"])
def path(request: pytest.FixtureRequest) -> Iterator[DataPath]:
    """A data path over each transport in turn."""
    if request.param == "cluster":
        nodes: Sequence[RedisServer] = request.getfixturevalue("cluster")
        made = DataPath.to_cluster([RedisAddress.parse(nodes[2].url)])
    elif request.param == "tls":
        running: RedisServer = request.getfixturevalue("tls_server")
        made = DataPath.to_server(RedisAddress.parse(as_user(running.url)))
    else:
        running = request.getfixturevalue("server")
        made = DataPath.to_server(RedisAddress.parse(running.url if request.param == "tcp" else running.unix_url))
    with made:
        yield made


def read_all(path: DataPath, keys: Sequence[bytes], size: int) -> list[object]:
    """Each value as bytes, or its Failure."""
    outcomes = path.get_all([(key, memoryview(bytearray(size))) for key in keys])
    return [bytes(outcome) if isinstance(outcome, memoryview) else outcome for outcome in outcomes]
