"""Request streams, which a server can end: an idle client neither keeps one for good nor holds up an exit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from stagemesh.errors import DeadlineExceeded, Overloaded, StagemeshError, Unavailable
from stagemesh.rpc.requests import Requests

STREAMS_PER_PLACE = 8
"""Open request streams, as a multiple of the requests in flight: each costs memory, idle or not."""


class RequestStream:
    """The requests of one call, parsed; it ends early as `OpenStreams` tells.

    The call has a place while its `whole` request is read and worked on, apart from the waits for the client; in
    one whose messages are requests of their own each has a place while `answering` it.
    """

    def __init__(
        self,
        name: str,
        source: AsyncIterable[bytes],
        parse: Callable[[bytes], Any],
        streams: OpenStreams,
        *,
        whole: bool,
    ) -> None:
        self._name = name
        self._source = source
        self._messages: AsyncIterator[bytes] | None = None
        self._parse = parse
        self._streams = streams
        self._whole = whole
        self._begun = self._placed = False
        self._answering = 0
        self._reading: asyncio.Future[bytes] | None = None
        self._cut: StagemeshError | None = None

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> Any:
        self.leave()
        if self._streams.ended and self._cut is None:
            self._cut = _draining()
        data = None if self._cut else await self._read()
        if data is None:
            raise StopAsyncIteration
        if self._whole:
            self._streams.requests.enter(bounded=not self._begun)
            self._begun = self._placed = True
        return self._parse(data)

    async def _read(self) -> bytes | None:
        """The next message; None once cut short, StopAsyncIteration at the client's end."""
        if self._messages is None:
            self._messages = aiter(self._source)
        self._reading = asyncio.ensure_future(anext(self._messages))
        self._watch()
        try:
            return await self._reading
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._cut is not None and task is not None and not task.cancelling():
                return None
            raise
        finally:
            self._reading = None
            self._watching.cancel()

    def _watch(self) -> None:
        self._watching = asyncio.get_running_loop().call_later(self._streams.idle_s, self._silent)

    def _silent(self) -> None:
        if self._answering:
            self._watch()
        else:
            waited = f"nothing was asked in the stream for {self._streams.idle_s:g} s"
            self.cut(DeadlineExceeded(waited, reason="IDLE_STREAM"))

    def cut(self, why: StagemeshError) -> None:
        """End the requests, unless the client did; `check_complete` raises `why` once those before are answered."""
        if self._reading is not None:
            self._cut = why
            self._reading.cancel()

    def leave(self) -> None:
        """Give back the place of a whole request, if it has one."""
        if self._placed:
            self._placed = False
            self._streams.requests.leave()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """See the function of that name."""
        self._answering += 1
        try:
            with self._streams.requests.answered(self._name):
                yield
        finally:
            self._answering -= 1

    def check_complete(self) -> None:
        """Raise, where the client might have sent more, why it was not taken; for once all it sent is answered."""
        if self._cut is not None:
            raise self._cut


class OpenStreams:
    """The request streams of a server: bounded in number, each ended when idle for `idle_s`, all when it drains."""

    def __init__(self, requests: Requests, *, limit: int, idle_s: float) -> None:
        self.requests = requests
        self.idle_s = idle_s
        self.ended = False
        self._limit = limit
        self._open: set[RequestStream] = set()

    @contextmanager
    def serving(self, stream: RequestStream) -> Iterator[None]:
        """Keep the stream while the block serves it; Overloaded where too many are open."""
        if len(self._open) >= self._limit:
            raise Overloaded(f"expected at most {self._limit} open streams, found one more", reason="TOO_MANY_STREAMS")
        self._open.add(stream)
        _serving.set(stream)
        try:
            yield
        finally:
            self._open.discard(stream)
            stream.leave()

    def end(self) -> None:
        """End all request streams, those that wait for a message at once."""
        self.ended = True
        for stream in tuple(self._open):
            stream.cut(_draining())


def _draining() -> Unavailable:
    return Unavailable("the server is draining and took no more of the stream", reason="DRAINING")


_serving: ContextVar[RequestStream | None] = ContextVar("stagemesh_stream", default=None)


@contextmanager
def answering() -> Iterator[None]:
    """One request of the stream being served: it takes a place, and counts and logs as a call of its own would.

    For each message of an RPC with a stream both ways. Raises Overloaded, and StageFailed in place of what is no
    StagemeshError.
    """
    stream = _serving.get()
    if stream is None:
        yield
        return
    with stream.answering():
        yield
