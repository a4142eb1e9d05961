"""The promises of the index one by one, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import OutOfMemoryError

from services.kvstore.index import Index, LeaseLost, Match, Outcome, Reservation
from services.kvstore.limits import Limits
from tests.kvstore.conftest import Time
from tests.support.redis_server import redis_cluster, redis_server

CHAIN = [b"%d" % number for number in range(10)]


def limits(capacity: int = 10, **more: object) -> Limits:
    return Limits(capacity=capacity, high=1.0, step=0.0, **more)  # type: ignore[arg-type]


async def put(
    index: Index, keys: Sequence[bytes], parent: bytes = b"", tenant: str = "ann", size: int = 1, lease: str = ""
) -> list[Reservation]:
    """Reserve and commit what can be reserved."""
    run = [(key, size) for key in keys]
    reserved = await index.reserve(parent, run, tenant=tenant, model="chat", lease=lease)
    await index.commit([each for each in reserved if each.outcome is Outcome.RESERVED])
    return reserved


def keys_of(match: Match) -> list[bytes]:
    return [block.key for block in match.blocks]


async def test_match_gives_the_longest_prefix_and_where_its_values_are(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(), time)
    reserved = await put(index, CHAIN[:3], size=2)
    match = await index.match(CHAIN)
    assert keys_of(match) == CHAIN[:3]
    assert [(block.token, block.size) for block in match.blocks] == [(each.token, 2) for each in reserved]
    assert index.value_key(b"0", reserved[0].token) == b"n/0/" + reserved[0].token.encode()
    assert not match.lease


async def test_a_gap_and_a_block_of_another_chain_end_the_prefix(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(), time)
    await put(index, [b"a", b"b"])
    await put(index, [b"x", b"y"])
    assert keys_of(await index.match([b"a", b"gap", b"b"])) == [b"a"]
    assert keys_of(await index.match([b"a", b"y"])) == [b"a"]


async def test_a_reservation_is_invisible_until_committed_and_its_commit_may_be_repeated(
    redis: Redis, time: Time
) -> None:
    index = Index(redis, "n", limits(), time)
    reserved = await index.reserve(b"", [(b"a", 1)], tenant="ann", model="chat")
    assert keys_of(await index.match([b"a"])) == []
    assert (await index.reserve(b"", [(b"a", 1)], tenant="ann", model="chat"))[0].outcome is Outcome.BUSY
    assert await index.commit(reserved) == await index.commit(reserved) == [Outcome.COMMITTED]
    assert (await index.reserve(b"", [(b"a", 1)], tenant="ann", model="chat"))[0].outcome is Outcome.EXISTS
    assert await index.revoke(reserved) == [Outcome.COMMITTED]
    assert (await index.stats()).counters["bytes"] == 1


async def test_a_writer_that_dies_is_reaped_and_can_not_commit_afterwards(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(reserve_ms=500), time)
    reserved = await index.reserve(b"", [(key, 2) for key in CHAIN[:3]], tenant="ann", model="chat")
    time.now += 500
    counters = (await index.stats()).counters
    assert "bytes" not in counters and "pending" not in counters and counters["removed:reaped"] == 3
    assert await index.commit(reserved) == [Outcome.UNKNOWN] * 3
    assert len(await index.garbage(10)) == 3


async def test_a_child_of_a_parent_that_was_put_again_is_refused(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(), time)
    parent, child = await index.reserve(b"", [(b"a", 1), (b"b", 1)], tenant="ann", model="chat")
    await index.revoke([parent])
    await put(index, [b"a"])
    assert await index.commit([child]) == [Outcome.NO_PARENT]
    assert await index.evict(down_to=0) == 0  # the new parent never counted the child


async def test_the_end_of_a_chain_goes_before_its_beginning(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(), time)
    await put(index, CHAIN)
    for held in range(9, -1, -1):
        assert await index.evict(down_to=held) == held
        assert (await index.stats()).counters.get("blocks", 0) == held
        assert keys_of(await index.match(CHAIN)) == CHAIN[:held]


async def test_a_lease_keeps_the_whole_prefix_until_it_ends_by_itself(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(), time)
    await put(index, CHAIN)
    match = await index.match(CHAIN[:6], lease_ms=1_000)
    assert await index.evict(down_to=0) == 6
    time.now += 900
    await index.renew(match.lease, 1_000)
    time.now += 900
    assert await index.evict(down_to=0) == 6
    time.now += 100
    assert await index.evict(down_to=0) == 0
    with pytest.raises(LeaseLost, match=match.lease):
        await index.renew(match.lease, 1_000)
    assert not await index.release(match.lease)


async def test_a_put_under_a_lease_is_admitted_in_place_of_what_is_not_lent(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(), time)
    await put(index, CHAIN)
    match = await index.match([b"new"], lease_ms=1_000)
    assert {each.outcome for each in await put(index, [b"n%d" % i for i in range(10)], lease=match.lease)} == {
        Outcome.RESERVED
    }
    other = await put(index, [b"late", b"later"])
    assert [each.outcome for each in other] == [Outcome.NO_CAPACITY, Outcome.NO_PARENT]
    await index.release(match.lease)
    assert (await put(index, [b"late"]))[0].outcome is Outcome.RESERVED


async def test_a_put_without_a_living_lease_or_of_a_block_too_large_is_refused(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(), time)
    with pytest.raises(LeaseLost, match="gone"):
        await put(index, [b"a"], lease="gone")
    assert (await put(index, [b"a"], size=11))[0].outcome is Outcome.NO_CAPACITY
    assert (await put(index, [b"b"], parent=b"nowhere"))[0].outcome is Outcome.NO_PARENT


async def test_a_pinned_block_keeps_its_prefix_past_eviction_and_ttl(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(ttl_ms=100), time)
    await put(index, CHAIN)
    assert await index.pin(CHAIN[2]) and not await index.pin(b"nowhere")
    assert await index.evict(down_to=0) == 3
    time.now += 1_000
    assert keys_of(await index.match(CHAIN)) == CHAIN[:3]
    await index.pin(CHAIN[2], False)
    time.now += 100
    assert keys_of(await index.match(CHAIN)) == []


async def test_idle_blocks_are_dropped_after_the_ttl_and_used_ones_kept(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(ttl_ms=1_000), time)
    await put(index, CHAIN)
    time.now += 600
    await index.match(CHAIN[:4])
    time.now += 400
    assert keys_of(await index.match(CHAIN)) == CHAIN[:4]
    assert (await index.stats()).counters["removed:ttl"] == 6


async def test_a_tenant_at_its_quota_replaces_its_own_blocks_only(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(100, quota=4, quotas={"ann": 0}), time)
    await put(index, [b"a%d" % i for i in range(20)])
    await put(index, [b"b%d" % i for i in range(4)], tenant="bob/{x}: y")
    lent = await index.match([b"b0", b"b1"], lease_ms=1_000)
    reserved = await put(index, [b"c%d" % i for i in range(4)], tenant="bob/{x}: y")
    refused = [Outcome.QUOTA, Outcome.NO_PARENT]  # what is left is lent or being written
    assert [each.outcome for each in reserved] == [Outcome.RESERVED, Outcome.RESERVED, *refused]
    stats = await index.stats()
    assert stats.tenants == {"ann": 20, "bob/{x}: y": 4}
    assert keys_of(await index.match([b"b0", b"b1"])) == [b"b0", b"b1"]
    await index.release(lent.lease)


async def test_purge_takes_lent_and_pinned_blocks_of_that_tenant_and_model_alone(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(10_000), time)
    many = [b"%d" % number for number in range(3_000)]
    await put(index, many)
    await put(index, [b"bob"], tenant="bob")
    match = await index.match(many, lease_ms=1_000)
    await index.pin(many[5])
    assert await index.purge(tenant="ann", model="other") == 0
    assert await index.purge(tenant="ann") == 3_000
    stats = await index.stats()
    assert stats.tenants == {"bob": 1} and stats.counters["bytes"] == 1
    assert await index.release(match.lease)
    assert keys_of(await index.match([b"bob"])) == [b"bob"]
    with pytest.raises(ValueError, match="found neither"):
        await index.purge()


async def test_garbage_is_named_until_its_deletion_is_reported(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(), time)
    reserved = await put(index, [b"a/with spaces and/slashes"])
    value = index.value_key(b"a/with spaces and/slashes", reserved[0].token)
    await index.evict(down_to=0)
    again = await put(index, [b"a/with spaces and/slashes"])
    assert await index.garbage(10) == await index.garbage(10) == [value]
    assert index.value_key(b"a/with spaces and/slashes", again[0].token) != value
    assert await index.garbage(10, [value]) == []


async def test_a_flush_is_a_miss_and_typed_answers_and_scripts_are_sent_again(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(), time)
    reserved = await index.reserve(b"", [(b"a", 1)], tenant="ann", model="chat")
    lease = (await index.match([], lease_ms=1_000)).lease
    await redis.flushall()
    await redis.script_flush()
    assert keys_of(await index.match([b"a"])) == []
    assert await index.commit(reserved) == [Outcome.UNKNOWN]
    with pytest.raises(LeaseLost):
        await index.renew(lease, 1_000)
    assert (await put(index, [b"a"]))[0].outcome is Outcome.RESERVED


@pytest.mark.parametrize("rubbish", [b"", b"\x01", b"\x02" + bytes(60), b"\x01" + b"\xff" * 80])
async def test_a_record_written_by_someone_else_is_a_miss(redis: Redis, time: Time, rubbish: bytes) -> None:
    index = Index(redis, "n", limits(), time)
    await put(index, CHAIN[:3])
    await redis.hset("{n}:blocks", CHAIN[1], rubbish)
    assert keys_of(await index.match(CHAIN)) == CHAIN[:1]
    assert (await put(index, [CHAIN[1]], parent=CHAIN[0]))[0].outcome is Outcome.RESERVED


async def test_a_full_redis_can_still_be_emptied(time: Time) -> None:
    with redis_server(memory_bytes=3 << 20) as server:
        redis = Redis(unix_socket_path=str(server.socket_path))
        index = Index(redis, "n", limits(10_000), time)
        reserved = await put(index, CHAIN)
        match = await index.match(CHAIN, lease_ms=1_000)
        with pytest.raises(OutOfMemoryError):
            for number in range(1_000):
                await redis.set(f"filler{number}", bytes(10_000))
        with pytest.raises(OutOfMemoryError):
            await redis.set(index.value_key(reserved[0].key, reserved[0].token), bytes(10_000))
        assert await index.release(match.lease)
        assert await index.evict(down_to=0) == 0
        assert len(await index.garbage(100)) == 10
        await redis.aclose()


async def test_racing_replicas_reserve_each_block_once(redis: Redis, redis_socket: str) -> None:
    clients = [Redis(unix_socket_path=redis_socket) for _ in range(4)]
    replicas = [Index(client, "n", limits(1_000)) for client in clients]
    keys = [b"%d" % number for number in range(50)]
    runs = await asyncio.gather(*(put(replica, keys) for replica in replicas * 5))
    assert sum(each.outcome is Outcome.RESERVED for run in runs for each in run) == 50
    assert (await replicas[0].stats()).counters["bytes"] == 50
    for client in clients:
        await client.aclose()


async def test_namespaces_do_not_see_each_other(redis: Redis, time: Time) -> None:
    one, two = Index(redis, "one", limits(), time), Index(redis, "two", limits(), time)
    await put(one, CHAIN)
    assert keys_of(await two.match(CHAIN)) == []
    assert (await two.stats()).tenants == {}
    with pytest.raises(ValueError, match="braces"):
        Index(redis, "a{b}", limits())


async def test_redis_keeps_the_time_where_no_clock_is_given(redis: Redis) -> None:
    index = Index(redis, "n", limits())
    await put(index, CHAIN)
    match = await index.match(CHAIN, lease_ms=50)
    assert await index.evict(down_to=0) == 10
    await asyncio.sleep(0.1)
    assert await index.evict(down_to=0) == 0
    assert not await index.release(match.lease)


async def test_ten_thousand_keys_take_one_round_trip(redis: Redis, time: Time) -> None:
    index = Index(redis, "n", limits(100_000), time)
    keys = [b"%032d" % number for number in range(10_000)]
    await put(index, keys)
    await index.match(keys[:1])
    await redis.config_resetstat()
    assert len((await index.match(keys, lease_ms=1_000)).blocks) == 10_000
    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == 1


async def test_a_cluster_keeps_a_namespace_in_one_slot(time: Time) -> None:
    with redis_cluster() as nodes:
        cluster = RedisCluster.from_url(nodes[0].url)
        index = Index(cluster, "pool", limits(), time)
        reserved = await put(index, CHAIN)
        assert keys_of(await index.match(CHAIN, lease_ms=1_000)) == CHAIN
        values = [index.value_key(each.key, each.token) for each in reserved]
        assert len({cluster.keyslot(value) for value in values}) > 3
        assert await index.purge(tenant="ann") == 10
        await cluster.aclose()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"capacity": 0}, "capacity: expected a positive number, found 0"),
        ({"capacity": 1, "ttl_ms": -1}, "ttl_ms: expected 0 or more, found -1"),
        ({"capacity": 1, "high": 0.5, "step": 0.6}, "found step 0.6, high 0.5"),
    ],
)
def test_wrong_limits_are_named(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Limits(**wrong)  # type: ignore[arg-type]
