"""The scripts against the plain-Python model, step by step: two Index instances on one Redis, real small values.

After each step all of Redis is compared with all of the model: every record, lease, leaf, ghost and sum, and the
lengths of the values themselves with the bytes accounted for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from services.kvstore.index import Index, LeaseLost, Outcome, Reservation
from services.kvstore.limits import Limits
from tests.kvstore.model import Model
from tests.kvstore.snapshot import of_model, of_redis

T = TypeVar("T")
NAMESPACE = "machine"
TENANTS = ("ann", "bob")
STEPS, RUNS = (100, 400) if os.environ.get("STAGEMESH_LONG_TESTS") else (60, 80)

# A small forest: chain "c" of tree "t" is its first blocks in order, so chains share prefixes.
trees, depths, branches = st.integers(0, 3), st.integers(1, 6), st.integers(0, 2)
sizes = st.sampled_from([7, 5, 1, 20, 101])


def chain(tree: int, depth: int, branch: int) -> list[bytes]:
    """Keys of a chain that leaves the common stem of its tree after two blocks; the odd trees are bob's."""
    return [b"%d/%d" % (tree, i) if i < 2 else b"%d/%d/%d" % (tree, branch, i) for i in range(depth)]


class IndexMachine(RuleBasedStateMachine):
    """Rules are calls of either replica; `reservations` are puts under way, some of them forgotten by a crash."""

    redis_socket = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis = Redis(unix_socket_path=self.redis_socket)
        self.now = 1_000_000
        self.leases: list[str] = []
        self.reservations: list[Reservation] = []
        self.run(self.redis.flushall())

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.redis.aclose())
        self.loop.close()

    @initialize(
        high=st.sampled_from([1.0, 0.9, 0.5]),
        ttl=st.sampled_from([0, 3_000]),
        quota=st.sampled_from([0, 60]),
        ghosts=st.sampled_from([0, 3, 100]),
    )
    def begin(self, high: float, ttl: int, quota: int, ghosts: int) -> None:
        limits = Limits(
            capacity=100, high=high, step=0.2, ttl_ms=ttl, reserve_ms=900, quotas={"bob": quota}, ghosts=ghosts
        )
        self.model = Model(limits)
        self.replicas = [Index(self.redis, NAMESPACE, limits, clock=lambda: self.now) for _ in range(2)]

    def lease(self, number: int) -> str:
        return self.leases[-1 - number % len(self.leases)] if self.leases else "never"

    def taken(self, first: int, many: int) -> list[Reservation]:
        """Some of the newest reservations, in order."""
        newest = self.reservations[-8:]
        start = first % (len(newest) + 1)
        return newest[start : start + many]

    @rule(replica=st.integers(0, 1), tree=trees, depth=depths, branch=branches, size=sizes, releases=st.booleans())
    def request(self, replica: int, tree: int, depth: int, branch: int, size: int, releases: bool) -> None:
        """What a prefill does: match under a lease, put what is missing, commit, release or leave it to time."""
        self.match(replica, tree, depth, branch, 1_500)
        self.put(replica, tree, depth, branch, 0, size, 0, False, commits=True)
        if releases:
            self.release(replica, 0)

    # Rules are drawn evenly, and what fills the pool must outweigh what empties it.
    request_again = rule(
        replica=st.integers(0, 1), tree=trees, depth=depths, branch=branches, size=sizes, releases=st.booleans()
    )(request.hypothesis_stateful_rule.function)  # type: ignore[attr-defined]
    request_once_more = rule(
        replica=st.integers(0, 1), tree=trees, depth=depths, branch=branches, size=sizes, releases=st.booleans()
    )(request.hypothesis_stateful_rule.function)  # type: ignore[attr-defined]

    @rule(replica=st.integers(0, 1), tree=trees, depth=depths, branch=branches, ms=st.sampled_from([0, 1_500]))
    def match(self, replica: int, tree: int, depth: int, branch: int, ms: int) -> None:
        keys = chain(tree, depth, branch)
        found = self.run(self.replicas[replica].match(keys, ms))
        assert [block.key for block in found.blocks] == self.model.match(self.now, keys, found.lease, ms)
        self.leases += [found.lease] if ms else []

    @rule(
        replica=st.integers(0, 1),
        tree=trees,
        depth=depths,
        branch=branches,
        ahead=st.sampled_from([0, 0, 0, 0, -1, 1]),
        size=sizes,
        number=st.sampled_from([None, None, 0, 0, 1, 2]),
        pinned=st.sampled_from([False] * 9 + [True]),
        commits=st.sampled_from([True, False]),
    )
    def put(
        self,
        replica: int,
        tree: int,
        depth: int,
        branch: int,
        ahead: int,
        size: int,
        number: int | None,
        pinned: bool,
        commits: bool,
    ) -> None:
        """Put what is missing of a chain, as after a match; `ahead` starts a block early or late."""
        keys = chain(tree, depth, branch)
        present = next((i for i, key in enumerate(keys) if key not in self.model.blocks), depth)
        start = min(max(present + ahead, 0), depth - 1)
        parent, run = (keys[start - 1] if start else b""), [(key, size) for key in keys[start:]]
        lease = "" if number is None else self.lease(number)
        tenant, model = TENANTS[tree % 2], f"model{tree // 2}"
        index = self.replicas[replica]
        work = index.reserve(parent, run, tenant=tenant, model=model, lease=lease, pinned=pinned)
        try:
            answer = self.run(work)
        except LeaseLost:
            assert self.model.reserve(self.now, parent, [], tenant, model, lease, pinned) is None
            return
        puts = [(each.key, size, each.token) for each in answer]
        expected = self.model.reserve(self.now, parent, puts, tenant, model, lease, pinned)
        assert [each.outcome for each in answer] == expected
        for each in answer:
            if each.outcome is Outcome.RESERVED:
                self.run(self.redis.set(index.value_key(each.key, each.token), b"v" * size))
                self.reservations.append(each)
        if commits:
            own = [each for each in answer if each.outcome is Outcome.RESERVED]
            outcomes = self.run(index.commit(own))
            assert outcomes == self.model.commit(self.now, [(each.key, each.token) for each in own])

    @rule(replica=st.integers(0, 1), first=st.integers(0, 8), many=st.integers(1, 6))
    def commit(self, replica: int, first: int, many: int) -> None:
        chosen = self.taken(first, many)
        outcomes = self.run(self.replicas[replica].commit(chosen))
        assert outcomes == self.model.commit(self.now, [(each.key, each.token) for each in chosen])

    @rule(replica=st.integers(0, 1), first=st.integers(0, 8), many=st.integers(1, 3))
    def revoke(self, replica: int, first: int, many: int) -> None:
        chosen = self.taken(first, many)
        outcomes = self.run(self.replicas[replica].revoke(chosen))
        assert outcomes == self.model.revoke(self.now, [(each.key, each.token) for each in chosen])

    @rule(replica=st.integers(0, 1), number=st.integers(0, 3), ms=st.sampled_from([500, 4_000]))
    def renew(self, replica: int, number: int, ms: int) -> None:
        lease = self.lease(number)
        lives = self.model.renew(self.now, lease, ms)
        try:
            self.run(self.replicas[replica].renew(lease, ms))
        except LeaseLost:
            assert not lives
        else:
            assert lives

    @rule(replica=st.integers(0, 1), number=st.integers(0, 3))
    def release(self, replica: int, number: int) -> None:
        lease = self.lease(number)
        assert self.run(self.replicas[replica].release(lease)) == self.model.release(self.now, lease)

    @rule(tree=trees, depth=depths, branch=branches, pinned=st.booleans())
    def pin(self, tree: int, depth: int, branch: int, pinned: bool) -> None:
        key = chain(tree, depth, branch)[-1]
        assert self.run(self.replicas[0].pin(key, pinned)) == self.model.pin(self.now, key, pinned)

    @rule(replica=st.integers(0, 1), down_to=st.sampled_from([None, 60, 80, 90]))
    def evict(self, replica: int, down_to: int | None) -> None:
        assert self.run(self.replicas[replica].evict(down_to)) == self.model.evict(self.now, down_to)

    @rule(ms=st.sampled_from([300, 700, 1]))
    def wait(self, ms: int) -> None:
        self.now += ms

    @rule(how=st.sampled_from(["crash", "sleep", "purge", "flood"]), number=st.integers(0, 5))
    def wreck(self, how: str, number: int) -> None:
        """Writers crash and forget their reservations; a long silence; a purge; everything unlent evicted."""
        if how == "crash":
            self.reservations.clear()
        elif how == "sleep":
            self.now += 1_500 * (1 + number)
        elif how == "flood":
            self.evict(0, 0)
        else:
            tenant, model = ("", "ann", "bob")[number % 3], ("model0", "model1")[number % 2]
            removed = self.run(self.replicas[1].purge(tenant=tenant, model=model))
            assert removed == self.model.purge(self.now, tenant, model)

    @rule(most=st.integers(1, 20))
    def collect(self, most: int) -> None:
        found = self.run(self.replicas[0].garbage(most))
        if found:
            self.run(self.redis.unlink(*found))
        self.run(self.replicas[0].garbage(1, found))
        pairs = (name.removeprefix(b"machine/").rsplit(b"/", 1) for name in found)
        gone = {(key, token.decode()) for key, token in pairs}
        assert gone <= self.model.garbage
        self.model.garbage -= gone

    @invariant()
    def same_state(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.run(of_redis(self.redis, NAMESPACE)) == of_model(self.model)

    @invariant()
    def sums_are_exact(self) -> None:
        if not hasattr(self, "model"):
            return
        live = {self.replicas[0].value_key(block.key, block.token): block.size for block in self.model.blocks.values()}
        dead = {self.replicas[0].value_key(key, token) for key, token in self.model.garbage}
        redis: Any = self.redis
        held = {key: self.run(redis.strlen(key)) for key in self.run(redis.keys(f"{NAMESPACE}/*"))}
        assert live == {key: size for key, size in held.items() if key not in dead}
        assert self.model.counts["bytes"] == sum(live.values()) <= self.model.limits.capacity

    @invariant()
    def chains_never_break(self) -> None:
        if not hasattr(self, "model"):
            return
        for block in self.model.blocks.values():
            parent = self.model.blocks.get(block.parent)
            if block.parent and block.committed:
                assert parent and parent.committed and parent.children > 0


@pytest.mark.timeout(1800)
def test_scripts_follow_the_model(redis_socket: str) -> None:
    machine = type("Machine", (IndexMachine,), {"redis_socket": redis_socket})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
