"""The data path for asyncio code: each call runs in a thread of the path's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TypeVar

from stagemesh.kvdata.path import DataPath, Read, Value, Written

T = TypeVar("T")


class AsyncDataPath:
    """At most `threads` calls of `path` at a time, others wait. Belongs to one event loop; close it.

    A cancelled call returns only when its thread has stopped: nothing touches its buffers any more then.
    """

    def __init__(self, path: DataPath, threads: int = 4) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(threads, "kv-data")

    async def get_all(self, wanted: Sequence[tuple[bytes, memoryview]]) -> list[Read]:
        """As DataPath.get_all; when cancelled it stops after the value under way."""
        size = max((buffer.nbytes for _, buffer in wanted), default=0)
        outcomes: dict[int, Read] = {}
        await self.visit(
            lambda: self._path.get([key for key, _ in wanted], size, lambda index: wanted[index][1]),
            lambda item: outcomes.__setitem__(*item),
        )
        return [outcomes[index] for index in range(len(wanted))]

    async def put(self, values: Sequence[Value], expire_ms: int = 0) -> list[Written]:
        """As DataPath.put; once begun it ends, also when cancelled."""
        return await self._in_thread(lambda stop: self._path.put(values, expire_ms))

    async def visit(self, start: Callable[[], Generator[T, None, None]], visitor: Callable[[T], object]) -> None:
        """Call `visitor` with each item of the generator that `start` gives, such as one of `get_blocks`, in a thread.

        When cancelled it stops after the item under way.
        """

        def work(stop: threading.Event) -> None:
            with closing(start()) as items:
                for item in items:
                    visitor(item)
                    if stop.is_set():
                        return

        await self._in_thread(work)

    async def aclose(self) -> None:
        """Wait for the calls under way and close the path."""
        await asyncio.to_thread(self._threads.shutdown)
        self._path.close()

    async def _in_thread(self, work: Callable[[threading.Event], T]) -> T:
        stop = threading.Event()
        running = self._threads.submit(work, stop)
        done = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            stop.set()
            running.cancel()
            while not running.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([done])
            raise
