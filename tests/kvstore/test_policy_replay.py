"""Long traffic: the policy learns, forgets and evicts thousands of times, in Redis exactly as in the model."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from bench.kv_reference import lru_share
from bench.kv_traces import block_key, generate
from services.kvstore.index import Index
from services.kvstore.limits import Limits
from tests.kvstore.conftest import Time
from tests.kvstore.model import Model
from tests.kvstore.snapshot import of_model, of_redis

COMPARE_EVERY = 100


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("capacity", "high", "ghosts"), [(300, 1.0, 65_536), (600, 0.9, 1_000)])
async def test_scripts_follow_the_model_over_a_trace(
    redis: Redis, time: Time, capacity: int, high: float, ghosts: int
) -> None:
    limits = Limits(capacity=capacity, high=high, step=high - 0.85, ghosts=ghosts)
    index, model = Index(redis, "trace", limits, time), Model(limits)
    trace = generate(requests=1_500, sessions_per_s=0.5)
    for number, chain in enumerate(trace):
        time.now += 100
        await _request(index, model, time.now, [block_key(block) for block in chain])
        if number % COMPARE_EVERY == 0:
            assert await of_redis(redis, "trace") == of_model(model)
    assert await of_redis(redis, "trace") == of_model(model)
    assert model.policy.next_halving > 10_000  # so the statistics have been halved
    assert model.counts["removed:capacity"] > 5_000
    assert model.counts["found"] / model.counts["wanted"] > lru_share(trace, capacity)


async def _request(index: Index, model: Model, now: int, keys: list[bytes]) -> None:
    match = await index.match(keys, 1_000)
    here = len(match.blocks)
    assert model.match(now, keys, match.lease, 1_000) == keys[:here]
    parent = keys[here - 1] if here else b""
    run = [(key, 1) for key in keys[here:]]
    reserved = await index.reserve(parent, run, tenant="t", model="m", lease=match.lease)
    puts = [(each.key, 1, each.token) for each in reserved]
    assert [each.outcome for each in reserved] == model.reserve(now, parent, puts, "t", "m", match.lease)
    pairs = [(each.key, each.token) for each in reserved]
    assert await index.commit(reserved) == model.commit(now, pairs)
    assert await index.release(match.lease) and model.release(now, match.lease)
