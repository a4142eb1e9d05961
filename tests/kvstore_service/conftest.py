"""A kvstore service for each backend that tests share which do it no harm, emptied for each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stagemesh.client.kv import KvClient
from stagemesh.client.kv_blocks import KvBlocks
from tests.kvstore_service.backends import SPEC, Backend, backend, kvstore, target
from tests.mesh.processes import ServiceProcess


@pytest.fixture(scope="session", params=["unix", "tls", "cluster"])
def redis_backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with backend(request.param, tmp_path_factory.mktemp("tls")) as made:
        yield made


@pytest.fixture(scope="session")
def service(redis_backend: Backend) -> Iterator[ServiceProcess]:
    with kvstore(redis_backend) as (process,):
        yield process


@pytest.fixture(params=["service", "direct"])
def client(request: pytest.FixtureRequest, redis_backend: Backend, service: ServiceProcess) -> Iterator[KvClient]:
    """A client that goes through the service, and one that goes to Redis itself, on an empty pool."""
    redis_backend.flush()
    redis = redis_backend.url if request.param == "direct" else ""
    with KvClient(target([service]), redis=redis) as made:
        yield made


@pytest.fixture
def blocks(client: KvClient) -> KvBlocks:
    return KvBlocks(client, SPEC, model="chat", memory_bytes=64 * SPEC.value_size)
