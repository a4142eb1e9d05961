"""The small parts: arena, single-flight, breaker, and the path for asyncio code."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from stagemesh.errors import ConfigError, Overloaded
from stagemesh.kv.block import Mismatch
from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.aio import AsyncDataPath
from stagemesh.kvdata.arena import Arena, Slot
from stagemesh.kvdata.blocks import Refused, get_blocks, put_blocks
from stagemesh.kvdata.breaker import Breaker, State
from stagemesh.kvdata.failures import Failure, Reason
from stagemesh.kvdata.path import DataPath
from stagemesh.kvdata.single_flight import SingleFlight
from tests.kv.strategies import LINKS, PAYLOAD, SPEC, value_of
from tests.kvdata.conftest import SHORT
from tests.support.redis_server import RedisServer, redis_server

DOWN = Failure(Reason.UNREACHABLE, "gone")


def test_an_arena_lends_what_it_has_and_no_more() -> None:
    arena = Arena(100, 2)
    one, two = arena.take(), arena.take()
    one.view[:], two.view[:] = b"1" * 128, b"2" * 128
    assert bytes(one.view[:100]) == b"1" * 100
    with pytest.raises(Overloaded, match="all slots of 128 bytes are in use"):
        arena.take()
    two.share()
    two.release()
    assert arena.free == 0
    two.release()
    with pytest.raises(ValueError, match="released"):
        two.release()
    with pytest.raises(ValueError, match="released"):
        two.share()
    with arena.take() as again:
        assert again.view == b"2" * 128
    assert arena.free == 1


def test_an_arena_waits_for_a_slot() -> None:
    arena = Arena(1, 1)
    slot = arena.take()
    threading.Timer(0.05, slot.release).start()
    assert arena.take(timeout_s=10) is not slot
    with pytest.raises(ConfigError):
        Arena(0, 1)


def test_single_flight_fetches_once_and_shares() -> None:
    arena = Arena(8, 4)
    flight: SingleFlight[str, Slot] = SingleFlight(share=Slot.share)
    entered, go = threading.Event(), threading.Event()
    fetched: list[Slot] = []
    got: list[Slot] = []

    def fetch() -> Slot:
        entered.set()
        go.wait(10)
        fetched.append(arena.take())
        return fetched[-1]

    threads = [threading.Thread(target=lambda: got.append(flight.do("key", fetch))) for _ in range(8)]
    threads[0].start()
    entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    quitter, leads = flight.join("key")
    assert not leads
    quitter.cancel()
    while len(flight._flights["key"][1]) < 8:
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(fetched) == 1
    assert got == fetched * 8
    for slot in got:
        slot.release()
    assert arena.free == 4


def test_single_flight_hands_out_the_error_and_forgets_it() -> None:
    flight: SingleFlight[str, int] = SingleFlight()
    future, leads = flight.join("key")
    follower, follows = flight.join("key")
    assert (leads, follows) == (True, False)
    flight.fail("key", OSError("no"))
    for one in (future, follower):
        with pytest.raises(OSError, match="no"):
            one.result(0)
    assert flight.do("key", lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        flight.do("key", lambda: 1 // 0)
    assert flight.do("key", lambda: 4) == 4


def test_the_breaker_opens_probes_and_closes() -> None:
    now = [0.0]
    breaker = Breaker(failures=3, wait_s=1, longest_wait_s=3, clock=lambda: now[0])
    for _ in range(3):
        assert breaker.admit() is None
        breaker.record(DOWN)
    assert breaker.state is State.OPEN
    assert breaker.admit() == DOWN
    for wait_s in (1, 2, 3, 3):
        now[0] += wait_s - 0.01
        assert breaker.admit() == DOWN
        now[0] += 0.02
        assert breaker.admit() is None
        assert breaker.admit() == DOWN
        breaker.record(Failure(Reason.TIMEOUT))
        breaker.record(DOWN)
    now[0] += 3.01
    assert breaker.admit() is None
    breaker.record(None)
    assert breaker.state is State.CLOSED
    assert breaker.admit() is None


def test_failures_of_one_value_do_not_open_the_breaker() -> None:
    breaker = Breaker(failures=2)
    for reason in (Reason.MISSING, Reason.OVERSIZED, Reason.WRONG_TYPE, Reason.FULL, Reason.BUSY) * 3:
        breaker.record(Failure(reason))
    breaker.record(DOWN)
    breaker.record(None)
    breaker.record(DOWN)
    assert breaker.state is State.CLOSED
    with pytest.raises(ConfigError, match="breaker: expected"):
        Breaker(failures=0)


def test_a_lost_probe_blocks_for_a_while_only() -> None:
    now = [0.0]
    breaker = Breaker(failures=1, wait_s=1, clock=lambda: now[0])
    breaker.record(DOWN)
    now[0] = 1.5
    assert breaker.admit() is None
    assert breaker.admit() == DOWN
    now[0] = 3.0
    assert breaker.admit() is None


def test_blocks_are_verified_where_they_are_read(path: DataPath) -> None:
    keys = [f"block {index}" for index in range(4)]
    new = [(key, link, PAYLOAD) for key, link in zip(keys, LINKS, strict=True)]
    assert put_blocks(path, SPEC, new) == [None] * 4
    path.put([(b"block 1", (value_of(LINKS[3]),)), (b"block 2", (b"garbage",))])
    buffer = memoryview(bytearray(SPEC.value_size))
    found = {}
    for index, outcome in get_blocks(
        path, SPEC, [*zip(keys, LINKS, strict=True), ("none", LINKS[0])], lambda _: buffer
    ):
        found[index] = bytes(outcome) if isinstance(outcome, memoryview) else outcome.reason
    assert found == {0: PAYLOAD, 1: Mismatch.CHAIN, 2: Mismatch.TRUNCATED, 3: PAYLOAD, 4: Reason.MISSING}
    assert Refused(Mismatch.CHAIN, "").reason == "chain"


async def test_asyncio_code_reads_and_writes(path: DataPath) -> None:
    wire = AsyncDataPath(path)
    assert await wire.put([(b"aio %d" % index, (b"x" * index,)) for index in range(20)]) == [None] * 20
    outcomes = await wire.get_all([(b"aio %d" % index, memoryview(bytearray(20))) for index in range(21)])
    assert outcomes[:20] == [b"x" * index for index in range(20)]
    assert outcomes[20] == Failure(Reason.MISSING)
    await wire.aclose()


async def test_after_a_cancel_nothing_writes_to_the_buffers() -> None:
    with redis_server() as server:
        wire = AsyncDataPath(DataPath.to_server(RedisAddress.parse(server.url), SHORT), threads=1)
        value = b"v" * (1 << 20)
        await wire.put([(b"c%d" % index, (value,)) for index in range(20)])
        buffers = [memoryview(bytearray(len(value))) for _ in range(20)]
        server.pause()
        task = asyncio.create_task(wire.get_all([(b"c%d" % index, buffer) for index, buffer in enumerate(buffers)]))
        waiting = asyncio.create_task(wire.get_all([(b"c0", buffers[0])]))
        await asyncio.sleep(0.05)
        waiting.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.CancelledError):
            await waiting
        seen = [bytes(buffer) for buffer in buffers]
        server.resume()
        await asyncio.sleep(0.1)
        assert [bytes(buffer) for buffer in buffers] == seen
        outcomes = await wire.get_all([(b"c3", buffers[3])])
        assert outcomes == [value]
        await wire.aclose()


def test_the_server_fixture_is_redis(server: RedisServer) -> None:
    with server.client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
