"""Request streams that a draining server can end, so that an idle client can't hold up its exit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from stagemesh.errors import Unavailable


class RequestStream:
    """The requests of one call, parsed; it ends early when `OpenStreams.end` is called."""

    def __init__(self, source: AsyncIterator[bytes], parse: Callable[[bytes], Any], streams: OpenStreams) -> None:
        self._source = source
        self._parse = parse
        self._streams = streams
        self._cut = False

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> Any:
        data = await self._streams.read(self._source)
        if data is None:
            self._cut = True
            raise StopAsyncIteration
        return self._parse(data)

    def check_complete(self) -> None:
        """Raise Unavailable where the client might have sent more, once all it sent is answered."""
        if self._cut:
            raise Unavailable("the server is draining and took no more of the stream", reason="DRAINING")


class OpenStreams:
    """The request streams of a server, to be ended together when it drains."""

    def __init__(self) -> None:
        self._ended = False
        self._reads: set[asyncio.Future[bytes]] = set()

    async def read(self, source: AsyncIterator[bytes]) -> bytes | None:
        """Return the next message; None once `end` was called; StopAsyncIteration at the client's end."""
        if self._ended:
            return None
        read = asyncio.ensure_future(anext(source))
        self._reads.add(read)
        try:
            return await read
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._ended and task is not None and not task.cancelling():
                return None
            raise
        finally:
            self._reads.discard(read)

    def end(self) -> None:
        """End all request streams, those that wait for a message at once."""
        self._ended = True
        for read in tuple(self._reads):
            read.cancel()
