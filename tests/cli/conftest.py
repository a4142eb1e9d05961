"""Servers for the verbs to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.servers import serve


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """`host:port` of a ready server."""
    with serve() as address:
        yield address


@pytest.fixture(scope="session")
def server_without_index() -> Iterator[str]:
    """`host:port` of a server that is SERVING and fails when it is asked for its models."""
    with serve("no-index") as address:
        yield address


@pytest.fixture(scope="session")
def unready_server() -> Iterator[str]:
    """`host:port` of a server that stays NOT_SERVING."""
    with serve("not-ready") as address:
        yield address
