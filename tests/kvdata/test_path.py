"""The data path against real servers, over TCP, a unix socket, TLS with an ACL user, and a cluster."""

from __future__ import annotations

import random
import threading

import pytest

from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.connection import Limits
from stagemesh.kvdata.failures import Failure, Reason
from stagemesh.kvdata.path import DataPath
from tests.kvdata.conftest import read_all
from tests.support.redis_server import RedisServer, redis_server

SIZES = (0, 1, 63, 64, 65, 4096, 65_536, 737_536, 4 << 20)


def test_values_of_any_size_come_back(path: DataPath) -> None:
    values = {b"size %d" % size: random.Random(size).randbytes(size) for size in SIZES}
    written = path.put([(key, (value[:10], memoryview(value)[10:])) for key, value in values.items()])
    assert written == [None] * len(values)
    for key, value in values.items():
        assert read_all(path, [key], len(value)) == [value]
    assert read_all(path, [*values], max(SIZES)) == [*values.values()]


def test_any_mix_of_hits_and_misses_is_told_apart(path: DataPath) -> None:
    chance = random.Random(7)
    stored = {b"mix %d" % index: chance.randbytes(chance.choice((5, 100, 999, 1000))) for index in range(200)}
    path.put([(key, (value,)) for key, value in stored.items()])
    for _ in range(20):
        keys = [chance.choice([*stored, b"absent 1", b"absent 2"]) for _ in range(chance.randint(1, 150))]
        expected = [stored.get(key, Failure(Reason.MISSING)) for key in keys]
        assert read_all(path, keys, 1000) == expected


def test_a_value_larger_than_its_buffer_is_skipped(path: DataPath) -> None:
    path.put([(b"large", (bytes(3 << 20),)), (b"small", (b"abc",))])
    large, small = read_all(path, [b"large", b"small"], 1000)
    assert isinstance(large, Failure)
    assert (large.reason, large.detail) == (Reason.OVERSIZED, "expected at most 1000 bytes, found 3145728")
    assert small == b"abc"


def test_a_reader_who_stops_early_leaves_nothing_behind(path: DataPath) -> None:
    values = [bytes([index]) * 50_000 for index in range(40)]
    keys = [b"early %d" % index for index in range(40)]
    path.put([(key, (value,)) for key, value in zip(keys, values, strict=True)])
    for _ in range(5):
        buffer = memoryview(bytearray(50_000))
        reads = path.get(keys, 50_000, lambda index, buffer=buffer: buffer)  # type: ignore[misc]
        assert isinstance(next(reads)[1], memoryview)
        reads.close()
        assert read_all(path, keys, 50_000) == values


def test_a_writer_overwrites(path: DataPath) -> None:
    for value in (b"one", b"two" * 100_000):
        assert path.put([(b"again", (value,))]) == [None]
        assert read_all(path, [b"again"], 300_000) == [value]


def test_threads_share_a_path(path: DataPath) -> None:
    keys = [b"thread %d" % index for index in range(60)]
    values = [key * 3000 for key in keys]
    path.put([(key, (value,)) for key, value in zip(keys, values, strict=True)])
    wrong: list[object] = []

    def work() -> None:
        for _ in range(5):
            wrong.extend(
                outcome for outcome, value in zip(read_all(path, keys, 40_000), values, strict=True) if outcome != value
            )

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_value_can_expire(server: RedisServer) -> None:
    with DataPath.to_server(RedisAddress.parse(server.url)) as path:
        assert path.put([(b"brief", (b"x",))], expire_ms=60_000) == [None]
    with server.client() as client:
        assert 0 < client.pttl(b"brief") <= 60_000


def test_nothing_to_do_is_done(path: DataPath) -> None:
    assert path.get_all([]) == []
    assert path.put([]) == []


def test_foreign_types_are_named(server: RedisServer) -> None:
    with server.client() as client:
        client.delete(b"list")
        client.rpush(b"list", b"x")
    with DataPath.to_server(RedisAddress.parse(server.url)) as path:
        outcome = read_all(path, [b"list"], 10)[0]
        assert isinstance(outcome, Failure)
        assert outcome.reason is Reason.WRONG_TYPE


def test_a_full_server_refuses_puts_and_answers_gets() -> None:
    with redis_server(memory_bytes=8 << 20) as small, DataPath.to_server(RedisAddress.parse(small.url)) as path:
        written = path.put([(b"full %d" % index, (bytes(1 << 20),)) for index in range(12)])
        done = [outcome is None for outcome in written]
        assert done[0] and not done[-1]
        assert {outcome.reason for outcome in written if outcome} == {Reason.FULL}
        assert read_all(path, [b"full 0"], 1 << 20) == [bytes(1 << 20)]


def test_few_connections_serve_many_threads(server: RedisServer) -> None:
    limits = Limits(connections=2, timeout_s=20)
    with DataPath.to_server(RedisAddress.parse(server.url), limits) as path:
        test_threads_share_a_path(path)
        with server.client() as client:
            ours = [one for one in client.client_list() if one["cmd"] in ("get", "set")]
            assert 1 <= len(ours) <= 2 + 16


def test_a_closed_path_says_so(server: RedisServer) -> None:
    path = DataPath.to_server(RedisAddress.parse(server.url))
    path.put([(b"closed", (b"x",))])
    path.close()
    outcome = read_all(path, [b"closed"], 10)[0]
    assert isinstance(outcome, Failure)
    assert outcome.reason is Reason.STOPPED


@pytest.mark.parametrize("window", [1, 1000, 1 << 22])
@pytest.mark.parametrize("lanes", [1, 3])
def test_any_window_and_lanes(server: RedisServer, window: int, lanes: int) -> None:
    with DataPath.to_server(RedisAddress.parse(server.url), Limits(lanes=lanes, window_bytes=window)) as path:
        keys = [b"window %d" % index for index in range(30)]
        assert path.put([(key, (key, key)) for key in keys]) == [None] * 30
        assert read_all(path, keys, 100) == [key * 2 for key in keys]
