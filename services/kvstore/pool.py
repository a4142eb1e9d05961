"""The pool as its callers see it: the index, the values it points to, and what is counted of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, replace

from services.kvstore.index import Index, IndexStats, Listed, Match, Outcome, Reservation
from services.kvstore.limits import Limits
from services.kvstore.metrics import KvMetrics
from services.kvstore.redis_client import IndexBroken, redis_errors
from services.kvstore.values import Framer, Lost, Values, Wanted
from stagemesh.kv.block import Mismatch
from stagemesh.kv.keys import HASH_BYTES
from stagemesh.kvdata.failures import Reason

TOKEN_CHARS = 16

SUSPECTS = 64
"""Blocks of one report that are looked at at once; the rest is left to an audit."""

MISS_WORDS = frozenset({*Reason, *Mismatch})


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of blocks to put: key and size of each, the first after `parent`, b"" at the start of a chain."""

    blocks: Sequence[tuple[bytes, int]]
    parent: bytes
    tenant: str
    model: str
    lease: str = ""
    pinned: bool = False


class Alarm:
    """What the upkeep is asked to do soon."""

    def __init__(self) -> None:
        self.collect = asyncio.Event()  # values have become garbage
        self.audit = False  # the index and the values may differ
        self.reset = False  # the index can't be used as it is


class Pool:
    """One namespace. Every method raises RedisDown, Overloaded for a full Redis, and IndexBroken."""

    def __init__(self, namespace: str, index: Index, values: Values, limits: Limits, metrics: KvMetrics) -> None:
        self._namespace = namespace
        self.index = index
        self.values = values
        self.limits = limits
        self.metrics = metrics
        self.alarm = Alarm()

    async def match(self, keys: Sequence[bytes], lease_ms: int) -> Match:
        """The longest readable prefix, lent where `lease_ms` is above 0."""
        with self.guarded():
            match = await self.index.match(keys, lease_ms)
        self.metrics.hits.inc(len(match.blocks))
        self.metrics.missed(match.missing, len(keys) - len(match.blocks))
        return match

    async def read(self, wanted: Sequence[Wanted], frame: Framer) -> AsyncGenerator[bytes | Lost, None]:
        """The frame of each value, or why not. Close it to end early.

        A block whose value is broken or gone is dropped.
        """
        async with aclosing(self.values.read(wanted, frame)) as outcomes:
            async for outcome in outcomes:
                yield await self._lost(outcome) if isinstance(outcome, Lost) else outcome

    async def reserve(self, plan: Plan) -> list[Reservation]:
        """Make room. Raises LeaseLost."""
        with self.guarded():
            named = {"tenant": plan.tenant, "model": plan.model, "lease": plan.lease}
            reservations = await self.index.reserve(plan.parent, plan.blocks, pinned=plan.pinned, **named)
        self.alarm.collect.set()
        return reservations

    async def commit(self, reservations: Sequence[Reservation], sizes: Sequence[int]) -> list[Outcome]:
        """Make values readable that are there in the size that was reserved; the others are revoked: NOT_WRITTEN."""
        found = await self.values.keep([self.place(each.key, each.token) for each in reservations])
        whole = [each for each, size, at in zip(reservations, sizes, found, strict=True) if size == at]
        broken = [each for each, size, at in zip(reservations, sizes, found, strict=True) if size != at]
        with self.guarded():
            # Revoked first, so that no block is committed after one that isn't there.
            revoked = dict(zip(broken, await self.index.revoke(broken), strict=True)) if broken else {}
            outcomes = dict(zip(whole, await self.index.commit(whole), strict=True)) if whole else {}
        # Nothing but the reservation pointed to these, and their time to live is lifted.
        await self.values.delete([self.place(r.key, r.token) for r, o in outcomes.items() if o is Outcome.UNKNOWN])
        outcomes |= {each: _not_written(outcome) for each, outcome in revoked.items()}
        self.alarm.collect.set()
        return [outcomes[each] for each in reservations]

    async def revoke(self, reservations: Sequence[Reservation]) -> list[Outcome]:
        """Give reservations up."""
        with self.guarded():
            outcomes = await self.index.revoke(reservations)
        self.alarm.collect.set()
        return outcomes

    async def make_room(self, size: int) -> None:
        """Redis is full before the pool is: delete what is garbage, and evict blocks of about that many bytes."""
        with self.guarded():
            held = await self.index.evict()
            await self.index.evict(max(0, held - size))
        await self.collect_garbage()

    async def collect_garbage(self) -> None:
        """Delete the values whose blocks are gone."""
        deleted: list[bytes] = []
        while True:
            with self.guarded():
                deleted = await self.index.garbage(512, deleted)
            if not deleted:
                return
            start, end = len(self._namespace) + 1, -TOKEN_CHARS
            await self.values.delete([self.place(raw[start : end - 1], raw[end:].decode()) for raw in deleted])

    async def check(self, blocks: Sequence[Reservation], reasons: Sequence[str]) -> int:
        """Count misses that readers of Redis report, and drop the blocks that are broken indeed; how many.

        A reason that is no such word counts as `reported`.
        """
        for reason in reasons[: len(blocks)]:
            self.metrics.missed(reason if reason in MISS_WORDS else "reported")
        suspects = [
            Wanted(i, each.key, self.place(each.key, each.token), 0) for i, each in enumerate(blocks[:SUSPECTS])
        ]
        sizes = await self.values.sizes([each.place for each in suspects])
        wanted = [replace(each, size=max(0, size)) for each, size in zip(suspects, sizes, strict=True)]
        dropped = 0
        async for outcome in self.values.read(wanted, _unframed):
            dropped += await self._drop(outcome) if isinstance(outcome, Lost) else 0
        self.alarm.audit |= len(blocks) > len(suspects)
        return dropped

    async def renew(self, lease: str, lease_ms: int) -> None:
        """Let a lease live on. Raises LeaseLost."""
        with self.guarded():
            await self.index.renew(lease, lease_ms)

    async def release(self, lease: str) -> bool:
        """End a lease; False where it had ended before."""
        with self.guarded():
            held = await self.index.release(lease)
        self.alarm.collect.set()
        return held

    async def pin(self, key: bytes, pinned: bool) -> bool:
        """Keep a block, or keep it no longer; False where there is none."""
        with self.guarded():
            return await self.index.pin(key, pinned)

    async def stats(self) -> IndexStats:
        """What the pool holds and has counted."""
        with self.guarded():
            self.metrics.pool = await self.index.stats()
        return self.metrics.pool

    async def purge(self, tenant: str, model: str) -> int:
        """Remove a tenant's or a model's blocks, and delete their values; how many."""
        with self.guarded():
            removed = await self.index.purge(tenant=tenant, model=model)
        await self.collect_garbage()
        return removed

    async def listing(self, chosen: Callable[[Listed], bool]) -> AsyncGenerator[list[Listed], None]:
        """The blocks, piece by piece."""
        pieces = self.index.listing()
        while True:
            with self.guarded():
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield [block for block in piece if chosen(block)]

    def place(self, key: bytes, token: str) -> bytes:
        """The Redis key of a value: the block's key (see BlockKey) and the token of the put that wrote it.

        The index knows blocks by raw bytes, which take less time than hex; in Redis people should be able to read them.
        """
        fingerprint, chain = key[:HASH_BYTES].hex(), key[HASH_BYTES:].hex()
        return f"{self._namespace}/{fingerprint}/{chain}/{token}".encode()

    def block_at(self, place: bytes) -> tuple[bytes, str] | None:
        """Key and token of the block whose value lies at `place`; None for a key that isn't of our making."""
        parts = place.split(b"/")
        with suppress(ValueError):
            _, fingerprint, chain, token = (part.decode("ascii") for part in parts)
            key = bytes.fromhex(fingerprint) + bytes.fromhex(chain)
            if len(key) == 2 * HASH_BYTES and self.place(key, token) == place:
                return key, token
        return None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Calls of the index inside: their errors made our own, and a broken index is reset soon."""
        try:
            with redis_errors():
                yield
        except (IndexBroken, ValueError, TypeError) as error:
            self.alarm.reset = True
            self.alarm.collect.set()
            raise error if isinstance(error, IndexBroken) else IndexBroken(f"the index: {error}") from error

    async def _lost(self, lost: Lost) -> Lost:
        self.metrics.missed(lost.reason)
        await self._drop(lost)
        self.alarm.audit |= lost.doubtful
        return lost

    async def _drop(self, lost: Lost) -> int:
        if not lost.dead:
            return 0
        token = lost.wanted.place[-TOKEN_CHARS:].decode()
        with self.guarded():
            dropped = await self.index.drop(lost.reason, [(lost.wanted.key, token)])
        # Where one value is gone or broken, others may be.
        self.alarm.audit |= dropped > 0
        self.alarm.collect.set()
        return dropped


def _not_written(revoked: Outcome) -> Outcome:
    return Outcome.UNKNOWN if revoked is Outcome.UNKNOWN else Outcome.NOT_WRITTEN


def _unframed(index: int, size: int) -> tuple[bytes, memoryview]:
    return b"", memoryview(bytearray(size))
