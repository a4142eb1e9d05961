"""Values in Redis: read and verified where they were read to, written with a time to live that a commit lifts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.kvstore.redis_client import Client, redis_errors
from stagemesh.kv.block import BlockMismatch, verify_key
from stagemesh.kv.keys import HASH_BYTES
from stagemesh.kvdata.aio import AsyncDataPath
from stagemesh.kvdata.failures import Failure, Reason
from stagemesh.kvdata.path import DataPath

READ_AHEAD_BYTES = 2 << 20
"""What a call has read and not yet sent: twice this, or two values."""

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


Packer = Callable[[int, memoryview], bytes]


class Values:
    """Moves values through a data path of its own, and asks about them through `client`."""

    def __init__(self, path: DataPath, client: Client, threads: int = 4) -> None:
        self._path = path
        self._aio = AsyncDataPath(path, threads)
        self._client = client
        self._scratch = threading.local()

    async def read(self, wanted: Sequence[Wanted], pack: Packer) -> list[bytes | Lost]:
        """Read values, verify each, and keep what `pack` makes of its index and its bytes, which it must copy."""
        outcomes: list[bytes | Lost] = []

        def judge(item: tuple[int, memoryview | Failure]) -> None:
            outcomes.append(_judged(wanted[item[0]], item[1], pack))

        largest = max((each.size for each in wanted), default=0)
        places = [each.place for each in wanted]
        await self._aio.visit(
            lambda: self._path.get(places, largest, lambda index: self._buffer(largest)[: wanted[index].size]), judge
        )
        return outcomes

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

    def _buffer(self, size: int) -> memoryview:
        """This thread's memory to read to, kept from call to call: the first touch of memory is what costs."""
        buffer: memoryview | None = getattr(self._scratch, "buffer", None)
        if buffer is None or len(buffer) < size:
            buffer = self._scratch.buffer = memoryview(bytearray(size))
        return buffer


def batches(wanted: Sequence[Wanted]) -> list[list[Wanted]]:
    """`wanted` in runs of about READ_AHEAD_BYTES, at least one value each."""
    runs: list[list[Wanted]] = []
    room = 0
    for each in wanted:
        if not runs or each.size > room:
            runs.append([])
            room = READ_AHEAD_BYTES
        runs[-1].append(each)
        room -= each.size
    return runs


def _size(answer: object) -> int:
    if isinstance(answer, int):
        return answer
    if isinstance(answer, Exception) and "WRONGTYPE" in str(answer):
        return _NO_STRING
    if isinstance(answer, Exception):
        with redis_errors():
            raise answer
    return _NO_STRING


def _judged(wanted: Wanted, read: memoryview | Failure, pack: Packer) -> bytes | Lost:
    if isinstance(read, Failure):
        # An oversized value may be one whose size the reader had wrong.
        return Lost(wanted, read.reason, read.detail, read.reason in DEAD_REASONS, read.reason is Reason.OVERSIZED)
    fingerprint, chain = wanted.key[:HASH_BYTES], wanted.key[HASH_BYTES:]
    try:
        verify_key(read, fingerprint, chain)
    except BlockMismatch as error:
        return Lost(wanted, error.mismatch, str(error), dead=True)
    return pack(wanted.index, read)
