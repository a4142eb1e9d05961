"""What the service does unasked: it watches Redis, reaps, deletes garbage, and mends what others broke.

Each replica does all of it, at times of its own: every step may be done twice, or by two at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from services.kvstore.pool import Pool
from services.kvstore.redis_check import check_redis
from services.kvstore.redis_client import Client, redis_errors
from stagemesh.errors import StagemeshError

LOOK_S = 0.5
AUDIT_SHARE = 0.05
"""Of this replica's time at most, so that one who breaks value after value causes no more work than that."""
SCAN_COUNT = 1000

FRESH, AUDITED = "fresh", "audited"

log = logging.getLogger(__name__)


class Upkeep:
    """The upkeep of one namespace; `ready` is told whether Redis can be used."""

    def __init__(self, pool: Pool, client: Client, namespace: str, ready: Callable[[bool], None]) -> None:
        self._pool = pool
        self._client = client
        self._namespace = namespace
        # Lives and dies with the index, as its hash tag says.
        self._epoch_key = f"{{{namespace}}}:epoch"
        self._ready = ready
        self._problem = "not asked yet"
        self._checked = False
        self._next_audit = 0.0

    async def run(self) -> None:
        """Never returns; whatever Redis does ends as a problem that is logged once."""
        while True:
            try:
                await self._step()
                self._told("")
            except StagemeshError as error:
                self._checked = False
                self._told(str(error))
            except Exception as error:  # whatever Redis has been made to answer, the upkeep goes on
                log.exception("the upkeep met what it doesn't know")
                self._told(f"{type(error).__name__}: {error}")
            self._pool.alarm.collect.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._pool.alarm.collect.wait(), LOOK_S)

    async def _step(self) -> None:
        if not self._checked:
            with redis_errors():
                await check_redis(self._client, self._pool.limits)
            self._checked = True
        if self._pool.alarm.reset:
            self._pool.alarm.reset = False
            log.error("the index was written to by someone else; forgetting %d keys", await self._pool.index.reset())
        await self._pool.stats()
        with self._pool.guarded():
            await self._pool.index.evict()
            await self._pool.collect_garbage()
            if await self._audit_is_due():
                await self._audit()

    def _told(self, problem: str) -> None:
        up = not problem
        if problem != self._problem:
            log.log(logging.INFO if up else logging.ERROR, problem or "ready: Redis can be used")
        self._problem = problem
        self._pool.metrics.redis_up(up)
        self._ready(up)

    async def _audit_is_due(self) -> bool:
        await self._client.set(self._epoch_key, FRESH, nx=True)
        fresh = await self._client.get(self._epoch_key) != AUDITED.encode()
        return (fresh or self._pool.alarm.audit) and time.monotonic() >= self._next_audit

    async def _audit(self) -> None:
        """Make index and values agree: after Redis lost one of them, or someone deleted values."""
        self._pool.alarm.audit, started = False, time.monotonic()
        dropped = await self._drop_lost()
        deleted = await self._delete_orphans()
        await self._client.set(self._epoch_key, AUDITED, xx=True)
        ended = time.monotonic()
        self._next_audit = ended + max(LOOK_S, (ended - started) / AUDIT_SHARE)
        if dropped or deleted:
            log.warning("audit: dropped %d blocks without their values, deleted %d values", dropped, deleted)

    async def _drop_lost(self) -> int:
        dropped = 0
        async for blocks in self._pool.listing(lambda block: block.committed):
            sizes = await self._pool.values.sizes([self._pool.place(block.key, block.token) for block in blocks])
            lost = [(b.key, b.token) for b, size in zip(blocks, sizes, strict=True) if size != b.size]
            dropped += await self._pool.index.drop("lost", lost) if lost else 0
        return dropped

    async def _delete_orphans(self) -> int:
        deleted = 0
        async for places in self._places():
            parsed = {place: block for place in places if (block := self._pool.block_at(place))}
            known = await self._pool.index.known(list(parsed.values()))
            orphans = [place for place, is_known in zip(parsed, known, strict=True) if not is_known]
            await self._pool.values.delete(orphans)
            deleted += len(orphans)
        return deleted

    async def _places(self) -> AsyncIterator[list[bytes]]:
        """The keys that look like values of this namespace, piece by piece, from all servers."""
        batch: list[bytes] = []
        async for key in self._client.scan_iter(match=f"{self._namespace}/*", count=SCAN_COUNT):
            batch.append(key)
            if len(batch) == SCAN_COUNT:
                yield batch
                batch = []
        yield batch
