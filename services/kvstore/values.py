"""Values in Redis: read and verified where they were read to, written with a time to live that a commit lifts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from services.kvstore.redis_client import Client, redis_errors
from stagemesh.kv.block import BlockMismatch, Mismatch, verify_key
from stagemesh.kv.keys import HASH_BYTES
from stagemesh.kvdata.aio import AsyncDataPath
from stagemesh.kvdata.failures import Failure, Reason
from stagemesh.kvdata.path import DataPath

STEP_BYTES = 1 << 20
"""What a call reads in one go, at least one value; it has twice that in memory, read and not yet sent."""

DEAD_REASONS = frozenset({Reason.MISSING, Reason.WRONG_TYPE})
"""Failures that no later read can mend."""

# MISSING is no number of bytes, so neither is a key of another type.
_NO_STRING = -1


@dataclass(frozen=True, slots=True)
class Wanted:
    """A value to read: the block's key (fingerprint and chain hash), where its value is, and how long it should be."""

    index: int
    key: bytes
    place: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A value that can't be had. `dead` says that it never will be; `doubtful` that its size is in question."""

    wanted: Wanted
    reason: str
    detail: str
    dead: bool
    doubtful: bool = False


Framer = Callable[[int, int], tuple[bytes, memoryview]]
"""Gives, for the index and the size of a value, a message around it and where in it the value is to be written."""


class Values:
    """Moves values through a data path of its own, and asks about them through `client`."""

    def __init__(self, path: DataPath, client: Client, threads: int = 4) -> None:
        self._path = path
        self._aio = AsyncDataPath(path, threads)
        self._client = client
        self._readers = ThreadPoolExecutor(threads, "kv-reader")

    async def read(self, wanted: Sequence[Wanted], frame: Framer) -> AsyncGenerator[bytes | Lost, None]:
        """The frame of each value, which is read into it and verified there; or why not.

        The next ones are read while one is used. Close it to end early.
        """
        steps = self._steps(wanted, frame)
        ahead = self._readers.submit(next, steps, None)
        try:
            while (outcomes := await asyncio.wrap_future(ahead)) is not None:
                ahead = self._readers.submit(next, steps, None)
                for outcome in outcomes:
                    yield outcome
        finally:
            # In a thread as well: a step may be under way, and its connection is given back at the end of it.
            self._readers.submit(_close_after, ahead, steps)

    async def write(self, place: bytes, value: memoryview, expire_ms: int) -> Failure | None:
        """SET one value that Redis drops after `expire_ms`, unless it is kept by then."""
        return (await self._aio.put([(place, (value,))], expire_ms))[0]

    async def keep(self, places: Sequence[bytes]) -> list[int]:
        """Lift the time to live of values; their sizes, 0 where there is none, -1 for what is no string."""
        return await self._sizes(places, persist=True)

    async def sizes(self, places: Sequence[bytes]) -> list[int]:
        """The sizes of values, as `keep` has them."""
        return await self._sizes(places, persist=False)

    async def delete(self, places: Sequence[bytes]) -> None:
        """Delete values, whatever they are."""
        if places:
            with redis_errors():
                pipe = self._client.pipeline(transaction=False)
                for place in places:
                    # by name: the pipeline of a cluster has no unlink of its own
                    pipe.execute_command("UNLINK", place)
                await pipe.execute()

    async def aclose(self) -> None:
        """Wait for what is under way, and close all connections."""
        await asyncio.to_thread(self._readers.shutdown)
        await self._aio.aclose()

    async def _sizes(self, places: Sequence[bytes], *, persist: bool) -> list[int]:
        if not places:
            return []
        with redis_errors():
            pipe = self._client.pipeline(transaction=False)
            for place in places:
                if persist:
                    pipe.persist(place)
                pipe.strlen(place)
            answers = await pipe.execute(raise_on_error=False)
        return [_size(answer) for answer in (answers[1::2] if persist else answers)]

    def _steps(self, wanted: Sequence[Wanted], frame: Framer) -> Generator[list[bytes | Lost], None, None]:
        """The outcomes in runs of about STEP_BYTES; Redis is asked for the next ones meanwhile."""
        frames: dict[int, bytes] = {}

        def target(index: int) -> memoryview:
            frames[index], body = frame(wanted[index].index, wanted[index].size)
            return body

        outcomes: list[bytes | Lost] = []
        read, largest = 0, max((each.size for each in wanted), default=0)
        with closing(self._path.get([each.place for each in wanted], largest, target)) as values:
            for index, value in values:
                made = frames.pop(index, b"")
                outcomes.append(_lost(wanted[index], value) or made)
                read += wanted[index].size
                if read >= STEP_BYTES:
                    yield outcomes
                    outcomes, read = [], 0
        if outcomes:
            yield outcomes


def _close_after(step: Future[Any], steps: Generator[Any, None, None]) -> None:
    wait([step])
    steps.close()


def _size(answer: object) -> int:
    if isinstance(answer, int):
        return answer
    if isinstance(answer, Exception) and "WRONGTYPE" in str(answer):
        return _NO_STRING
    if isinstance(answer, Exception):
        with redis_errors():
            raise answer
    return _NO_STRING


def _lost(wanted: Wanted, read: memoryview | Failure) -> Lost | None:
    if isinstance(read, Failure):
        # An oversized value may be one whose size the reader had wrong.
        return Lost(wanted, read.reason, read.detail, read.reason in DEAD_REASONS, read.reason is Reason.OVERSIZED)
    fingerprint, chain = wanted.key[:HASH_BYTES], wanted.key[HASH_BYTES:]
    try:
        verify_key(read, fingerprint, chain)
    except BlockMismatch as error:
        return Lost(wanted, error.mismatch, str(error), dead=True)
    if len(read) < wanted.size:
        return Lost(wanted, Mismatch.LENGTH, f"expected {wanted.size} bytes, found {len(read)}", False, doubtful=True)
    return None
