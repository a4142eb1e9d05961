"""The client: one fetch for many readers, bounded memory, fallback, circuit breaker, asyncio."""

from __future__ import annotations

import asyncio
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stagemesh.client.kv import KvClient
from stagemesh.client.kv_aio import AsyncKvBlocks, AsyncKvClient
from stagemesh.client.kv_blocks import MEMORY_FULL, Held, KvBlocks
from stagemesh.client.kv_calls import Missed, Put
from stagemesh.client.kv_guard import CIRCUIT_OPEN
from stagemesh.errors import ConfigError, RemoteFailure, StagemeshError, Unavailable
from stagemesh.kvdata.connection import Limits
from stagemesh.rpc.status import UNREACHABLE
from tests.kvstore_service.backends import SPEC, Backend, backend, buffers, chain, kvstore, read, target, wait_until
from tests.mesh.processes import ServiceProcess

pytestmark = pytest.mark.xdist_group("kvstore_client")


@pytest.fixture(scope="module")
def alone() -> Iterator[Backend]:
    with backend("unix", Path()) as made:
        yield made


@pytest.fixture(scope="module")
def service(alone: Backend) -> Iterator[ServiceProcess]:
    with kvstore(alone) as (process,):
        yield process


@pytest.fixture(params=["service", "direct"])
def client(request: pytest.FixtureRequest, alone: Backend, service: ServiceProcess) -> Iterator[KvClient]:
    alone.flush()
    with KvClient(target([service]), redis="auto" if request.param == "direct" else "") as made:
        yield made


def test_many_readers_of_the_same_blocks_fetch_them_once(client: KvClient, alone: Backend) -> None:
    blocks, wanted, (server,) = KvBlocks(client, SPEC), chain(40), alone.clients
    blocks.put(wanted.blocks)
    prefix = blocks.match(wanted.links)
    server.config_resetstat()
    start, together = threading.Barrier(8), threading.Barrier(8)

    def fetch() -> list[bytes]:
        start.wait()
        held = [block for block in blocks.fetch(prefix) if isinstance(block, Held)]
        together.wait()
        payloads = [bytes(block.payload) for block in held]
        for block in held:
            block.release()
        return payloads

    with ThreadPoolExecutor(8) as pool:
        found = [future.result() for future in [pool.submit(fetch) for _ in range(8)]]
    assert found == [list(wanted.payloads)] * 8
    gets = int(server.info("commandstats")["cmdstat_get"]["calls"])
    assert 40 <= gets < 8 * 40


def test_fetched_memory_is_bounded_and_free_again(client: KvClient) -> None:
    blocks, wanted = KvBlocks(client, SPEC, memory_bytes=3 * SPEC.value_size), chain(5)
    blocks.put(wanted.blocks)
    prefix = blocks.match(wanted.links)
    for _ in range(3):
        found = blocks.fetch(prefix)
        assert [block.reason for block in found if isinstance(block, Missed)] == [MEMORY_FULL] * 2
        for block in found:
            if isinstance(block, Held):
                block.release()
    with pytest.raises(ConfigError, match="expected at least 16640"):
        KvBlocks(client, SPEC, memory_bytes=16639)


def test_a_reader_may_leave_early(client: KvClient) -> None:
    blocks, wanted = KvBlocks(client, SPEC), chain(30)
    blocks.put(wanted.blocks)
    prefix = blocks.match(wanted.links)
    for _ in range(20):
        reads = blocks.get(prefix, buffers(30))
        index, payload = next(reads)
        assert payload == wanted.payloads[index]
        reads.close()
    assert read(blocks, wanted.links) == list(wanted.payloads)


def test_what_redis_does_not_give_the_client_comes_through_the_service(
    alone: Backend, service: ServiceProcess, tmp_path: Path
) -> None:
    alone.flush()
    wanted = chain(4)
    limits = Limits(timeout_s=0.3, connect_timeout_s=0.3)
    with KvClient(target([service]), redis=f"unix://{tmp_path}/nothing", limits=limits) as client:
        blocks = KvBlocks(client, SPEC)
        for _ in range(4):
            outcomes = blocks.put(wanted.blocks)
        assert outcomes == [Put.COMMITTED] * 4 or outcomes == [Put.EXISTS] * 4
        assert read(blocks, wanted.links) == list(wanted.payloads)


def test_a_service_that_is_gone_is_not_asked_for_a_while() -> None:
    process = ServiceProcess("kvstore", redis_url="unix:///nowhere", drain_s=0.1)
    try:
        process.wait_listening()
        with KvClient(f"ipv4:{process.target}", deadline_s=2) as client:
            process.kill()
            reasons = []
            for _ in range(6):
                with pytest.raises(StagemeshError) as caught:
                    client.stats()
                reasons.append(caught.value.reason)
            assert reasons[-1] == CIRCUIT_OPEN
            assert UNREACHABLE in reasons or "DEADLINE_EXCEEDED" in reasons
            started = time.monotonic()
            with pytest.raises(Unavailable, match="is not asked for a while"):
                client.stats()
            assert time.monotonic() - started < 0.1
    finally:
        process.close()


def test_the_circuit_closes_when_the_service_is_back(alone: Backend) -> None:
    with kvstore(alone) as (first,):
        port = first.port
        with KvClient(first.ipv4, deadline_s=1) as client:
            client.stats()
            first.kill()
            for _ in range(4):
                with pytest.raises(StagemeshError):
                    client.stats()
            with kvstore(alone, port=port):
                wait_until(lambda: _tried(client), 15)


def test_a_mistake_of_the_caller_opens_no_circuit(client: KvClient) -> None:
    for _ in range(5):
        with pytest.raises(RemoteFailure):
            client.renew("none", 5)
    assert client.stats().blocks == 0


async def test_asyncio(client: KvClient) -> None:
    wanted = chain(6)
    async with AsyncKvClient(client) as own:
        blocks = AsyncKvBlocks(own, KvBlocks(client, SPEC, model="m"))
        lease = (await blocks.match([], lease_ms=60_000)).lease
        assert await blocks.put(wanted.blocks, lease=lease) == [Put.COMMITTED] * 6
        prefix = await blocks.match(wanted.links)
        assert await blocks.get(prefix, buffers(6)) == list(wanted.payloads)
        held = await blocks.fetch(prefix)
        assert [bytes(block.payload) for block in held if isinstance(block, Held)] == list(wanted.payloads)
        for block in held:
            if isinstance(block, Held):
                block.release()
        await own.renew(lease, 1000)
        assert await own.release(lease)
        assert (await own.stats()).blocks == 6
        assert await own.pin(SPEC.fingerprint, wanted.links[0].chain)
        with pytest.raises(RemoteFailure) as caught:
            await own.renew(lease, 1000)
        assert caught.value.reason == "LEASE_LOST"
        assert await own.purge(model="m") == 6


async def test_a_cancelled_fetch_gives_its_memory_back(client: KvClient) -> None:
    wanted = chain(40)
    async with AsyncKvClient(client) as own:
        inner = KvBlocks(client, SPEC, memory_bytes=40 * SPEC.value_size)
        blocks = AsyncKvBlocks(own, inner)
        await blocks.put(wanted.blocks)
        prefix = await blocks.match(wanted.links)
        for delay in (0.0, 0.0005, 0.001, 0.002, 0.005):
            task = asyncio.create_task(blocks.fetch(prefix))
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                for block in task.result():
                    block.release()  # type: ignore[union-attr]
        held = await blocks.fetch(prefix)
        assert all(isinstance(block, Held) for block in held)


def test_metrics_say_what_happened(client: KvClient, service: ServiceProcess) -> None:
    before = _metrics(service)
    blocks, wanted = KvBlocks(client, SPEC, tenant="t"), chain(4)
    blocks.put(wanted.blocks[:3])
    read(blocks, wanted.links)
    blocks.match(wanted.links)
    client.purge(tenant="t")
    purged = 'stagemesh_kv_pool_removed_blocks_total{cause="purged"}'
    wait_until(lambda: _metrics(service).get(purged) == 3)
    after = _metrics(service)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    path = "direct" if client.is_direct else "service"
    assert grown["stagemesh_kv_hit_blocks_total"] == 6
    assert grown['stagemesh_kv_miss_blocks_total{reason="unknown"}'] == 2
    assert grown[f'stagemesh_kv_value_bytes_total{{direction="in",path="{path}"}}'] == 3 * SPEC.value_size
    assert grown['stagemesh_kv_seconds_count{method="Match"}'] == 2
    assert after["stagemesh_kv_redis_up"] == 1


def _metrics(service: ServiceProcess) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.http_port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(stagemesh_kv\S+) (\S+)$", text, re.M)}


def _tried(client: KvClient) -> bool:
    try:
        client.stats()
    except StagemeshError:
        return False
    return True
