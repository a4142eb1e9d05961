"""A real Redis Cluster: keys spread over its masters, slots that move, masters that die."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.crc import key_slot as reference_slot

from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.failures import DataPathError, Failure, Reason
from stagemesh.kvdata.path import DataPath
from stagemesh.kvdata.slots import key_slot, parse_slots
from tests.kvdata.conftest import SHORT, read_all
from tests.support.redis_server import RedisServer, redis_cluster

KEYS = [b"ns/fp/%d" % index for index in range(120)]


@pytest.mark.parametrize(
    "key", [b"", b"a", b"{a}b", b"x{a}b", b"{}a", b"{a", b"a}", b"{{a}}", b"a{b}{c}", b"\xff\0{x}"]
)
def test_slots_are_redis_own(key: bytes) -> None:
    assert key_slot(key) == reference_slot(key)


@pytest.mark.parametrize(
    "reply", [None, b"x", [[0, 1]], [[0, 99999, [b"h", 1]]], [[b"0", 1, [b"h", 1]]], Failure(Reason.REFUSED)]
)
def test_another_reply_than_slots_is_a_protocol_failure(reply: object) -> None:
    with pytest.raises(DataPathError, match="CLUSTER SLOTS: expected"):
        parse_slots(reply, "h")  # type: ignore[arg-type]


def node_id(node: RedisServer) -> str:
    with node.client() as client:
        return str(client.execute_command("CLUSTER", "MYID").decode())


def set_slot(nodes: Sequence[RedisServer], slot: int, *words: str) -> None:
    for node in nodes:
        with node.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", slot, *words)


def owner_of(nodes: Sequence[RedisServer], slot: int) -> RedisServer:
    with nodes[0].client() as client:
        masters = parse_slots(client.execute_command("CLUSTER", "SLOTS"), "127.0.0.1")
    return next(node for node in nodes if node.port == masters[slot][1])


def test_keys_spread_over_all_masters(cluster: Sequence[RedisServer]) -> None:
    with DataPath.to_cluster([RedisAddress.parse(cluster[0].url)]) as path:
        assert path.put([(key, (key,)) for key in KEYS]) == [None] * len(KEYS)
        assert read_all(path, KEYS, 100) == KEYS
    for node in cluster:
        with node.client() as client:
            assert client.dbsize() > 10


def test_moved_and_asked_slots_are_followed() -> None:
    with redis_cluster() as nodes, DataPath.to_cluster([RedisAddress.parse(nodes[0].url)], SHORT) as path:
        path.put([(key, (key,)) for key in KEYS])
        key = KEYS[5]
        slot = key_slot(key)
        source = owner_of(nodes, slot)
        target = next(node for node in nodes if node is not source)
        set_slot([target], slot, "IMPORTING", node_id(source))
        set_slot([source], slot, "MIGRATING", node_id(target))
        with source.client() as client:
            client.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        # The slot is the source's yet, and the key is the target's: ASK.
        assert read_all(path, KEYS, 100) == KEYS
        set_slot(nodes, slot, "NODE", node_id(target))
        # The path's map is old now: MOVED.
        assert read_all(path, KEYS, 100) == KEYS
        assert path.put([(key, (b"new",))]) == [None]
        assert read_all(path, [key], 100) == [b"new"]


def test_a_dead_master_costs_its_own_keys_only() -> None:
    with redis_cluster() as nodes, DataPath.to_cluster([RedisAddress.parse(node.url) for node in nodes], SHORT) as path:
        path.put([(key, (key,)) for key in KEYS])
        gone = owner_of(nodes, key_slot(KEYS[0]))
        for node in nodes:
            with node.client() as client:
                client.execute_command("CONFIG", "SET", "cluster-require-full-coverage", "no")
        lost = {key for key in KEYS if owner_of(nodes, key_slot(key)) is gone}
        gone.kill()
        outcomes = dict(zip(KEYS, read_all(path, KEYS, 100), strict=True))
        assert {key for key, outcome in outcomes.items() if outcome != key} == lost
        assert {outcomes[key].reason for key in lost} == {Reason.UNREACHABLE}  # type: ignore[attr-defined]
        gone.start()
        outcomes = dict(zip(KEYS, read_all(path, KEYS, 100), strict=True))
        assert {outcomes[key].reason for key in lost} <= {Reason.MISSING, Reason.NOT_READY}  # type: ignore[attr-defined]


def test_no_seed_answers() -> None:
    with DataPath.to_cluster([RedisAddress(port=1), RedisAddress(path="/nonexistent")], SHORT) as path:
        outcomes = read_all(path, KEYS[:2], 10)
    assert [isinstance(outcome, Failure) and outcome.reason for outcome in outcomes] == [Reason.UNREACHABLE] * 2


def test_a_server_without_cluster_support_says_so(server: RedisServer) -> None:
    with DataPath.to_cluster([RedisAddress.parse(server.url)], SHORT) as path:
        outcome = read_all(path, [b"x"], 10)[0]
    assert isinstance(outcome, Failure)
    assert "cluster support disabled" in outcome.detail
