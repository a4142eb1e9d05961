"""Redis and the service fail in every way: typed errors or misses, accounting exact, recovery without a restart."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stagemesh.client.kv import KvClient
from stagemesh.client.kv_blocks import KvBlocks
from stagemesh.client.kv_calls import Put, reserve, revoke
from stagemesh.errors import RemoteFailure, StagemeshError
from stagemesh.kv.block import pack_header
from stagemesh.kvrpc.wire import plan_request, value_request
from stagemesh.v1 import kvstore_pb2 as pb
from tests.kvstore_service.backends import (
    SPEC,
    Backend,
    Chain,
    backend,
    buffers,
    chain,
    kvstore,
    read,
    settled,
    target,
    wait_until,
)
from tests.mesh.processes import ServiceProcess

pytestmark = pytest.mark.xdist_group("kvstore_faults")

TIMEOUT_S = 0.3
RESERVE_S = 1.0


@pytest.fixture(scope="module")
def alone() -> Iterator[Backend]:
    with backend("unix", Path()) as made:
        yield made


@pytest.fixture(scope="module")
def replicas(alone: Backend) -> Iterator[list[ServiceProcess]]:
    with kvstore(alone, 2, redis_timeout_s=TIMEOUT_S, kv_reserve_s=RESERVE_S) as processes:
        yield processes


@pytest.fixture
def client(alone: Backend, replicas: list[ServiceProcess]) -> Iterator[KvClient]:
    alone.flush()
    with KvClient(target(replicas)) as made:
        wait_until(lambda: _ready(replicas[0]) and _ready(replicas[1]))
        yield made


@pytest.fixture
def blocks(client: KvClient) -> KvBlocks:
    return KvBlocks(client, SPEC)


def test_redis_is_killed_and_comes_back(
    alone: Backend, replicas: list[ServiceProcess], client: KvClient, blocks: KvBlocks
) -> None:
    wanted = chain(4)
    blocks.put(wanted.blocks)
    prefix = blocks.match(wanted.links)
    alone.servers[0].kill()
    _fails_fast(lambda: blocks.match(wanted.links), "KV_REDIS_UNREACHABLE")
    assert {outcome.reason for _, outcome in blocks.get(prefix, buffers(4))} <= {"unreachable", "unavailable"}
    with pytest.raises(StagemeshError):
        blocks.put(chain(2, seed=1).blocks)
    wait_until(lambda: not _ready(replicas[0]) and not _ready(replicas[1]))
    alone.servers[0].start()
    wait_until(lambda: _ready(replicas[0]) and _ready(replicas[1]))
    _works_again(blocks, wanted)
    assert settled(client, alone)


def test_redis_stands_still_and_goes_on(
    alone: Backend, replicas: list[ServiceProcess], client: KvClient, blocks: KvBlocks
) -> None:
    wanted = chain(4)
    blocks.put(wanted.blocks)
    prefix = blocks.match(wanted.links)
    alone.servers[0].pause()
    try:
        assert {outcome.reason for _, outcome in blocks.get(prefix, buffers(4))} == {"timeout"}
        _fails_fast(lambda: blocks.match(wanted.links), "KV_REDIS_TIMEOUT")
        wait_until(lambda: not _ready(replicas[0]) and not _ready(replicas[1]))
    finally:
        alone.servers[0].resume()
    wait_until(lambda: _ready(replicas[0]) and _ready(replicas[1]))
    wait_until(lambda: _tried(lambda: read(blocks, wanted.links)) == list(wanted.payloads))
    assert settled(client, alone)


def test_redis_is_flushed(alone: Backend, client: KvClient, blocks: KvBlocks) -> None:
    wanted, lease = chain(4), blocks.match([], lease_ms=60_000).lease
    blocks.put(wanted.blocks, lease=lease)
    prefix = blocks.match(wanted.links)
    alone.flush()
    assert [outcome.reason for _, outcome in blocks.get(prefix, buffers(4))] == ["missing"] * 4
    assert len(blocks.match(wanted.links)) == 0
    with pytest.raises(RemoteFailure, match="expected a lease that lives"):
        blocks.put(wanted.blocks, lease=lease)
    _works_again(blocks, wanted)
    assert settled(client, alone)


def test_redis_is_full_of_someone_elses_data(alone: Backend, client: KvClient, blocks: KvBlocks) -> None:
    kept = chain(4)
    blocks.put(kept.blocks)
    (server,) = alone.clients
    server.config_set("maxmemory", int(server.info("memory")["used_memory"]) + SPEC.value_size)
    try:
        with pytest.raises(RemoteFailure) as caught:
            blocks.put(chain(8, seed=1).blocks)
        assert (caught.value.status, caught.value.reason) == ("RESOURCE_EXHAUSTED", "KV_REDIS_FULL")
        wait_until(lambda: settled(client, alone))
    finally:
        server.config_set("maxmemory", 512 << 20)
    _works_again(blocks, kept)
    wait_until(lambda: settled(client, alone))


def test_redis_has_less_memory_than_the_pool_was_told(alone: Backend, client: KvClient, blocks: KvBlocks) -> None:
    (server,) = alone.clients
    server.config_set("maxmemory", int(server.info("memory")["used_memory"]) + 60 * SPEC.value_size)
    try:
        done = [blocks.put(chain(10, seed=seed).blocks) for seed in range(12)]
        assert done[-1][0] is Put.COMMITTED
        assert client.stats().removed["capacity"] > 0
    finally:
        server.config_set("maxmemory", 512 << 20)
    wait_until(lambda: settled(client, alone))


def test_the_service_dies_between_reserve_and_commit(alone: Backend, client: KvClient, blocks: KvBlocks) -> None:
    wanted = chain(3)
    with kvstore(alone, redis_timeout_s=TIMEOUT_S, kv_reserve_s=RESERVE_S) as (doomed,):
        with KvClient(doomed.target) as other:
            sent = threading.Event()
            putting = threading.Thread(target=_stall, args=(other, wanted, sent))
            putting.start()
            assert sent.wait(5)
            wait_until(lambda: len(alone.values()) == 2)
            assert client.stats().pending_blocks == 3
            doomed.kill()
            assert blocks.put(wanted.blocks) == [Put.BUSY] * 3
            putting.join(10)
        wait_until(lambda: settled(client, alone), 5)
    assert (client.stats().bytes, client.stats().removed["reaped"]) == (0, 3)
    _works_again(blocks, wanted)


def test_a_writer_that_gives_up_leaves_nothing(
    alone: Backend, client: KvClient, replicas: list[ServiceProcess]
) -> None:
    sent = threading.Event()
    other = KvClient(target(replicas))
    putting = threading.Thread(target=_stall, args=(other, chain(3), sent))
    putting.start()
    assert sent.wait(5)
    wait_until(lambda: client.stats().pending_blocks == 3)
    started = time.monotonic()
    other.close()
    putting.join(10)
    wait_until(lambda: settled(client, alone), 5)
    assert time.monotonic() - started < RESERVE_S
    assert client.stats().removed["revoked"] == 3


def test_a_late_writer_leaves_nothing_and_commits_nothing(alone: Backend, client: KvClient, blocks: KvBlocks) -> None:
    wanted, (server,) = chain(1), alone.clients
    plan = _plan(wanted)
    reserved = client.run(reserve(plan))
    wait_until(lambda: client.stats().pending_blocks == 0, 5)
    key = reserved.place.key(SPEC.fingerprint, wanted.links[0].chain, reserved.tokens[0])
    server.set(key, b"x" * SPEC.value_size, px=reserved.expire_ms)
    assert client.run(revoke(SPEC.fingerprint, plan.chains, reserved.tokens)) == [Put.UNKNOWN]
    wait_until(lambda: settled(client, alone), 5)
    assert blocks.put(wanted.blocks) == [Put.COMMITTED]


@pytest.mark.parametrize("missing", [True, False])
def test_a_commit_without_the_value_is_refused(alone: Backend, client: KvClient, missing: bool) -> None:
    wanted, (server,) = chain(2), alone.clients
    plan = _plan(wanted)
    reserved = client.run(reserve(plan))
    for index, link in enumerate(wanted.links):
        size = SPEC.value_size if index or missing else SPEC.value_size - 1
        if index or not missing:
            key = reserved.place.key(SPEC.fingerprint, link.chain, reserved.tokens[index])
            server.set(key, b"x" * size, px=reserved.expire_ms)
    answer = client._methods["Commit"](
        pb.CommitRequest(fingerprint=SPEC.fingerprint, chains=plan.chains, tokens=reserved.tokens, sizes=plan.sizes),
        timeout=5,
    )
    assert list(answer.outcomes) == [pb.PUT_OUTCOME_NOT_WRITTEN, pb.PUT_OUTCOME_NO_PARENT]
    wait_until(lambda: settled(client, alone))
    assert client.stats().bytes == 0


@pytest.mark.parametrize(
    "vandalism",
    [
        ["SET", "{pool}:blocks", "junk"],
        ["HSET", "{pool}:count", "bytes", "junk"],
        ["ZADD", "{pool}:leaf:5", "-1", "nobody"],
        ["SET", "{pool}:garbage", "junk"],
        ["SADD", "{pool}:garbage", "junk"],
        ["ZADD", "{pool}:leases", "1", "nobody"],
        ["RPUSH", "{pool}:epoch", "junk"],
    ],
    ids=lambda words: words[1],
)
def test_an_index_that_others_wrote_to_is_forgotten(
    alone: Backend, client: KvClient, blocks: KvBlocks, vandalism: list[str]
) -> None:
    wanted = chain(4)
    blocks.put(wanted.blocks)
    (server,) = alone.clients
    with server.pipeline(transaction=True) as vandal:  # else the service may mend it between the two
        if vandalism[0] not in ("HSET", "ZADD", "SADD"):
            vandal.delete(vandalism[1])
        vandal.execute_command(*vandalism)
        vandal.execute()
    for seed in range(1, 12):
        _tried(lambda seed=seed: blocks.put(chain(32, seed=seed).blocks))
    wait_until(lambda: _tried(lambda: settled(client, alone)))
    wait_until(lambda: _tried(lambda: _works_again(blocks, chain(3, seed=99)) or True))
    wait_until(lambda: settled(client, alone))


def test_junk_in_place_of_a_record_is_a_block_that_is_not_there(
    alone: Backend, client: KvClient, blocks: KvBlocks
) -> None:
    wanted, (server,) = chain(3), alone.clients
    blocks.put(wanted.blocks)
    server.hset("{pool}:blocks", SPEC.fingerprint + wanted.links[1].chain, b"junk")
    assert len(blocks.match(wanted.links)) == 1
    assert blocks.put(wanted.blocks)[0] is Put.EXISTS
    assert blocks.put(wanted.blocks[1:2], after=wanted.links[0].chain) in ([Put.COMMITTED], [Put.EXISTS])


def test_an_index_that_lost_its_server_leaves_no_values_behind(tmp_path: Path) -> None:
    with backend("cluster", tmp_path) as nodes, kvstore(nodes) as (service,), KvClient(service.target) as client:
        blocks = KvBlocks(client, SPEC)
        blocks.put(chain(60).blocks)
        assert len(nodes.values()) == 60
        holder = next(node for node in nodes.clients if any(node.scan_iter(match="{pool}:*")))
        holder.flushall()
        assert 0 < len(nodes.values()) < 60
        wait_until(lambda: len(nodes.values()) == 0)
        _works_again(blocks, chain(60))
        other = next(node for node in nodes.clients if node is not holder)
        other.flushall()
        read(blocks, chain(60).links)
        wait_until(lambda: settled(client, nodes))


def test_two_replicas_are_one_pool(alone: Backend, replicas: list[ServiceProcess], client: KvClient) -> None:
    first, second = (KvBlocks(KvClient(replica.target), SPEC) for replica in replicas)
    wanted = chain(4)
    assert first.put(wanted.blocks) == [Put.COMMITTED] * 4
    assert second.put(wanted.blocks) == [Put.EXISTS] * 4
    assert read(second, wanted.links) == list(wanted.payloads)
    lease = first.match(wanted.links, lease_ms=60_000).lease
    assert second.client.release(lease)
    assert settled(client, alone)
    first.client.close()
    second.client.close()


def test_many_writers_of_one_chain_write_it_once(
    alone: Backend, replicas: list[ServiceProcess], client: KvClient
) -> None:
    wanted = chain(12)
    outcomes: list[list[Put]] = []

    def put() -> None:
        with KvClient(target(replicas)) as own:
            outcomes.append(KvBlocks(own, SPEC).put(wanted.blocks))

    threads = [threading.Thread(target=put) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcome is Put.COMMITTED for row in outcomes for outcome in row) == 12
    assert {outcome for row in outcomes for outcome in row} <= {Put.COMMITTED, Put.EXISTS, Put.BUSY}
    assert read(KvBlocks(client, SPEC), wanted.links) == list(wanted.payloads)
    wait_until(lambda: settled(client, alone))
    assert client.stats().bytes == 12 * SPEC.value_size


def test_a_redis_that_evicts_by_itself_is_refused_until_it_does_not(alone: Backend) -> None:
    (server,) = alone.clients
    server.config_set("maxmemory-policy", "allkeys-lru")
    process = ServiceProcess("kvstore", **alone.flags, drain_s=0.1)
    try:
        wait_until(lambda: "expected maxmemory-policy noeviction, found allkeys-lru" in process.log())
        process.wait_listening()
        assert not _ready(process)
        server.config_set("maxmemory-policy", "noeviction")
        wait_until(lambda: _ready(process))
        assert process.terminate() == 0
    finally:
        server.config_set("maxmemory-policy", "noeviction")
        process.close()


def _stall(client: KvClient, wanted: Chain, sent: threading.Event) -> None:
    """Send a plan and all values but the last, then wait for the end of the call."""
    ended = threading.Event()

    def requests() -> Iterator[bytes]:
        yield plan_request(_plan(wanted))
        for link, payload in wanted.blocks[:-1]:
            yield value_request(pack_header(SPEC, link, payload), payload)
        sent.set()
        ended.wait(10)

    try:
        client._methods["Put"](requests(), timeout=10)
    except Exception:
        ended.set()


def _plan(wanted: Chain) -> pb.PutPlan:
    return pb.PutPlan(
        fingerprint=SPEC.fingerprint,
        chains=[link.chain for link in wanted.links],
        sizes=[SPEC.value_size] * len(wanted.links),
    )


def _works_again(blocks: KvBlocks, wanted: Chain) -> None:
    lease = blocks.match([], lease_ms=5000).lease
    assert set(blocks.put(wanted.blocks, lease=lease)) <= {Put.COMMITTED, Put.EXISTS}
    assert read(blocks, wanted.links) == list(wanted.payloads)
    assert blocks.client.release(lease)


def _tried(action: Callable[[], object]) -> object:
    """What it returns, None where it ends in a typed error."""
    try:
        return action()
    except StagemeshError:
        return None


def _fails_fast(action: Callable[[], object], reason: str) -> None:
    started = time.monotonic()
    with pytest.raises(RemoteFailure) as caught:
        action()
    assert (caught.value.status, caught.value.reason) == ("UNAVAILABLE", reason)
    assert time.monotonic() - started < 2 * TIMEOUT_S + 0.5


def _ready(process: ServiceProcess) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.http_port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        assert process.process.poll() is None, process.log()[-2000:]
        return False
