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
def unready_server() -> Iterator[str]:
    """`host:port` of a server that stays NOT_SERVING."""
    with serve("not-ready") as address:
        yield address
