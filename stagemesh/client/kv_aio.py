"""The client of the KV-cache pool for asyncio code; belongs to one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TypeVar

import grpc.aio

from stagemesh.client import kv_calls
from stagemesh.client.calls import Call
from stagemesh.client.kv import KvClient
from stagemesh.client.kv_blocks import Held, KvBlocks
from stagemesh.client.kv_calls import Missed, Prefix, Put
from stagemesh.client.kv_guard import guarded
from stagemesh.client.kv_reading import Target
from stagemesh.client.kv_writing import Blocks
from stagemesh.kv.keys import Link
from stagemesh.kvrpc.service import METHODS, multicallable
from stagemesh.rpc.channel import aio_channel
from stagemesh.v1 import kvstore_pb2 as pb

T = TypeVar("T")


class AsyncKvClient:
    """`KvClient` with async methods: the same answers and errors. `client` is the blocking one, which moves blocks.

    Moves run in `threads` threads; more of them wait. Closing it closes `client`.
    """

    def __init__(self, client: KvClient, *, threads: int = 4) -> None:
        self.client = client
        self._channel = aio_channel(client.target)
        self._methods = {name: multicallable(self._channel, name) for name in METHODS}
        self._threads = ThreadPoolExecutor(threads, "kv-client")

    async def __aenter__(self) -> AsyncKvClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give all connections up; moves under way end first."""
        await self._channel.close()
        await asyncio.to_thread(self._threads.shutdown)
        self.client.close()

    async def renew(self, lease: str, lease_ms: int) -> None:
        await self.run(kv_calls.renew(lease, lease_ms))

    async def release(self, lease: str) -> bool:
        return await self.run(kv_calls.release(lease))

    async def pin(self, fingerprint: bytes, chain: bytes, pinned: bool = True) -> bool:
        return await self.run(kv_calls.pin(fingerprint, chain, pinned))

    async def stats(self) -> pb.StatsResponse:
        return await self.run(kv_calls.stats())

    async def purge(self, *, tenant: str = "", model: str = "") -> int:
        return await self.run(kv_calls.purge(tenant, model, self.client.move_deadline_s))

    async def run(self, call: Call[T]) -> T:
        """Make a call whose answer is one message."""
        timeout = self.client.deadline_s if call.deadline_s is None else call.deadline_s
        with guarded(self.client.service_breaker, self.client.target):
            try:
                answer = await self._methods[call.rpc](call.request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                raise call.failed(error, self.client.target) from error
        return call.parse(answer)

    async def move(self, work: Callable[[threading.Event], T], undo: Callable[[T], object] = lambda result: None) -> T:
        """Run `work` in a thread. When cancelled, set its event, wait for it, and `undo` what it still gave."""
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
            if not running.cancelled() and running.exception() is None:
                undo(running.result())
            raise


class AsyncKvBlocks:
    """`KvBlocks` with async methods. A cancelled call returns only when nothing touches its buffers any more."""

    def __init__(self, client: AsyncKvClient, blocks: KvBlocks) -> None:
        self.client = client
        self.blocks = blocks

    async def match(self, links: Sequence[Link], lease_ms: int = 0) -> Prefix:
        return await self.client.run(kv_calls.match(self.blocks.spec.fingerprint, links, lease_ms))

    async def get(self, prefix: Prefix, target: Target) -> list[memoryview | Missed]:
        """All blocks, in the order of the prefix; a cancelled call stops after the block under way."""

        def work(stop: threading.Event) -> dict[int, memoryview | Missed]:
            found: dict[int, memoryview | Missed] = {}
            with closing(self.blocks.get(prefix, target)) as reads:
                for index, read in reads:
                    found[index] = read
                    if stop.is_set():
                        break
            return found

        found = await self.client.move(work)
        return [found[index] for index in range(len(prefix))]

    async def fetch(self, prefix: Prefix) -> list[Held | Missed]:
        return await self.client.move(lambda stop: self.blocks.fetch(prefix), _release_all)

    async def put(self, blocks: Blocks, *, after: bytes = b"", lease: str = "", pinned: bool = False) -> list[Put]:
        """As KvBlocks.put; once begun it ends, also when cancelled."""
        return await self.client.move(lambda stop: self.blocks.put(blocks, after=after, lease=lease, pinned=pinned))


def _release_all(found: list[Held | Missed]) -> None:
    for block in found:
        if isinstance(block, Held):
            block.release()
