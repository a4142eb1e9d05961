"""Values in flight: pipelined requests on a few connections to one server, a bounded number of bytes at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stagemesh.kvdata.connection import Connection, ConnectionPool, Limits
from stagemesh.kvdata.failures import DataPathError, Failure
from stagemesh.kvdata.resp import ASKING, Redirect
from stagemesh.kvdata.wire import Buffer

Outcome = memoryview | Failure | Redirect | None
"""What became of a transfer: the filled view of a GET, None for a done SET, or why not."""


@dataclass(slots=True)
class Transfer:
    """One value to move, of about `size` bytes: what to send before, as and after it.

    `target`, None for a SET, gives the buffer that a GET's reply is read to, when it is about to be read.
    """

    index: int
    key: bytes
    size: int
    head: bytes
    target: Callable[[int], memoryview] | None = None
    body: Sequence[Buffer] = ()
    tail: bytes = b""
    ask: Redirect | None = None


class Lane:
    """One connection and the transfers asked for on it."""

    def __init__(self, connection: Connection, window: int) -> None:
        self.connection = connection
        self.pending: deque[Transfer] = deque()
        self._window = window
        self._in_flight = 0

    def top_up(self, queue: deque[Transfer]) -> None:
        """Ask for as much of `queue` as the window takes; at least one value."""
        pieces: list[Buffer] = []
        words = b""
        while queue and (not self.pending or self._in_flight + queue[0].size <= self._window):
            transfer = queue.popleft()
            self.pending.append(transfer)
            self._in_flight += transfer.size
            words += ASKING + transfer.head if transfer.ask else transfer.head
            if transfer.body:
                pieces += (words, *transfer.body)
                words = transfer.tail
        if words:
            self.connection.wire.write((*pieces, words))

    @property
    def is_half_free(self) -> bool:
        """Whether it is time to ask for more."""
        return 2 * self._in_flight <= self._window

    def receive(self) -> tuple[Transfer, Outcome]:
        """The outcome of the oldest transfer. Raises DataPathError; it is still pending then."""
        transfer, reader = self.pending[0], self.connection.reader
        if transfer.ask:
            reader.read_status()
        target = transfer.target
        outcome = reader.read_value(target(transfer.index)) if target else reader.read_status()
        self.pending.popleft()
        self._in_flight -= transfer.size
        return transfer, outcome


class Flow:
    """The transfers that one server gets in one call, over as many lanes as it can have.

    A lane that breaks fails what was asked for on it and leaves the rest to the others.
    """

    def __init__(self, pool: ConnectionPool, limits: Limits, transfers: list[Transfer]) -> None:
        """Raises DataPathError where no connection can be had."""
        self.pool = pool
        self._queue = deque(transfers)
        lent = pool.borrow(min(limits.lanes, len(transfers)))
        self.lanes = [Lane(connection, limits.window_bytes // len(lent)) for connection in lent]

    def step(self) -> Iterator[tuple[Transfer, Outcome]]:
        """Half a window of each lane, at least one reply; a lane with nothing left to do is given back."""
        for lane in tuple(self.lanes):
            try:
                lane.top_up(self._queue)
                if not lane.pending:
                    self._end(lane)
                    continue
                yield lane.receive()
                while not lane.is_half_free:
                    yield lane.receive()
            except DataPathError as error:
                yield from self._broken(lane, error.failure)

    def end(self) -> None:
        """Give all connections back; one with a reply outstanding is closed instead."""
        for lane in tuple(self.lanes):
            self._end(lane)

    def _end(self, lane: Lane) -> None:
        self.lanes.remove(lane)
        (self.pool.discard if lane.pending else self.pool.give_back)(lane.connection)

    def _broken(self, lane: Lane, failure: Failure) -> Iterator[tuple[Transfer, Outcome]]:
        failed = [*lane.pending]
        self.lanes.remove(lane)
        self.pool.discard(lane.connection)
        if not self.lanes:
            failed += self._queue
            self._queue.clear()
        for transfer in failed:
            yield transfer, failure
