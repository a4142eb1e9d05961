"""A put from plan to commit: values are checked, written as they come where reserved, and committed together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from services.kvstore.index import Outcome, Reservation
from services.kvstore.pool import Plan, Pool
from services.kvstore.redis_client import RedisDown
from stagemesh.errors import InvalidInput, Overloaded
from stagemesh.kv.block import BlockMismatch, verify_key
from stagemesh.kv.keys import HASH_BYTES
from stagemesh.kvdata.failures import SERVER_REASONS, Failure, Reason

IN_FLIGHT = 2
"""Values of one put that are written side by side."""

ROOM = (2, 8, 32)
"""How many blocks go for one that a full Redis refused, try after try: it needs memory for more than the values."""


class Putting:
    """One put. Call `add` with each value in order, then `commit`; `abort` if anything comes between."""

    def __init__(self, pool: Pool, plan: Plan, root: bytes, reservations: Sequence[Reservation]) -> None:
        """`root` is the parent that the first block must name, b"" for any."""
        self._pool = pool
        self._plan = plan
        self._reservations = reservations
        self._outcomes = [each.outcome for each in reservations]
        self._root = root
        self._parent = plan.parent[HASH_BYTES:] or root
        self._added = 0
        self._failure: Failure | None = None
        self._writes: set[asyncio.Task[None]] = set()

    async def add(self, value: memoryview) -> None:
        """Take the value of the next block, and write it if the block is reserved. Raises InvalidInput."""
        index = self._added
        if index == len(self._reservations):
            raise InvalidInput(f"expected {index} values, as planned, found one more")
        self._check(index, value)
        self._added += 1
        if self._outcomes[index] is Outcome.RESERVED:
            if len(self._writes) >= IN_FLIGHT:
                await asyncio.wait(self._writes, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._write(index, value))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def commit(self) -> list[Outcome]:
        """Wait for the writes, make readable what was written, and say what became of each block.

        Raises InvalidInput where values are missing, and what Redis said where it took none.
        """
        if self._added < len(self._reservations):
            raise InvalidInput(f"expected {len(self._reservations)} values, as planned, found {self._added}")
        await asyncio.gather(*self._writes)
        await self._settle(Outcome.NOT_WRITTEN, self._pool.revoke)
        await self._settle(Outcome.RESERVED, self._commit)
        if self._failure and Outcome.COMMITTED not in self._outcomes:
            raise _refused(self._failure)
        return self._outcomes

    async def abort(self, reason: str) -> None:
        """Give up what is not committed; the values that were written are deleted."""
        for task in self._writes:
            task.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        reserved = [each for each in self._reservations if each.outcome is Outcome.RESERVED]
        self._pool.metrics.aborted(reason)
        if reserved:
            await self._pool.revoke(reserved)

    def _check(self, index: int, value: memoryview) -> None:
        key, size = self._plan.blocks[index]
        if len(value) != size:
            raise InvalidInput(f"value {index}: expected {size} bytes, as planned, found {len(value)}")
        try:
            link = verify_key(value, key[:HASH_BYTES], key[HASH_BYTES:]).link
        except BlockMismatch as error:
            raise InvalidInput(f"value {index}: {error}", reason=error.reason) from error
        if self._parent and link.parent != self._parent:
            expected, found = self._parent.hex(), link.parent.hex()
            raise InvalidInput(f"value {index}: expected the parent {expected}, found {found}", reason="BLOCK_MISMATCH")
        self._parent = key[HASH_BYTES:]

    async def _settle(self, now: Outcome, settle: Callable[[list[Reservation]], Awaitable[list[Outcome]]]) -> None:
        indices = [index for index, outcome in enumerate(self._outcomes) if outcome is now]
        if not indices:
            return
        settled = await settle([self._reservations[index] for index in indices])
        for index, outcome in zip(indices, settled, strict=True):
            self._outcomes[index] = Outcome.NOT_WRITTEN if outcome is Outcome.REVOKED else outcome

    async def _commit(self, written: list[Reservation]) -> list[Outcome]:
        sizes = dict(self._plan.blocks)
        outcomes = await self._pool.commit(written, [sizes[each.key] for each in written])
        done = (each for each, outcome in zip(written, outcomes, strict=True) if outcome is Outcome.COMMITTED)
        self._pool.metrics.moved("in", "service", sum(sizes[each.key] for each in done))
        return outcomes

    async def _write(self, index: int, value: memoryview) -> None:
        if self._failure and self._failure.reason in SERVER_REASONS:
            self._outcomes[index] = Outcome.NOT_WRITTEN
            return
        reservation = self._reservations[index]
        place, expire_ms = self._pool.place(reservation.key, reservation.token), self._pool.limits.reserve_ms
        failure = await self._pool.values.write(place, value, expire_ms)
        for share in ROOM:
            if not failure or failure.reason is not Reason.FULL:
                break
            await self._pool.make_room(share * len(value))
            failure = await self._pool.values.write(place, value, expire_ms)
        if failure:
            self._outcomes[index], self._failure = Outcome.NOT_WRITTEN, failure


def _refused(failure: Failure) -> Exception:
    text = f"Redis {failure.reason}: {failure.detail}"
    if failure.reason in SERVER_REASONS:
        return RedisDown(text, reason=f"KV_REDIS_{failure.reason.upper()}")
    return Overloaded(text, reason=f"KV_REDIS_{failure.reason.upper()}", retry_after_s=1.0)
