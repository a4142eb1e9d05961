"""One signed-in connection to a Redis server, and the bounded set of them that a server gets."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from stagemesh.errors import ConfigError
from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.failures import DataPathError, Failure, Reason
from stagemesh.kvdata.resp import Reply, ReplyReader, command
from stagemesh.kvdata.wire import Wire, connect


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the data path may use of one server.

    A call moves its values over `lanes` connections, with `window_bytes` asked for at a time (at least one value a
    lane); all calls together open `connections`. A read or a write that gets nowhere for `timeout_s` fails.
    """

    lanes: int = 2
    connections: int = 8
    window_bytes: int = 512 << 10
    timeout_s: float = 1.0
    connect_timeout_s: float = 1.0

    def __post_init__(self) -> None:
        """Raises ConfigError for a limit that isn't positive."""
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: expected a positive number, found {getattr(self, name)}")


class Connection:
    """A wire, signed in, and the reader of its replies. Raises DataPathError, also for a refused sign-in."""

    def __init__(self, address: RedisAddress, limits: Limits) -> None:
        self.address = address
        self.wire: Wire = connect(address, limits.connect_timeout_s, limits.timeout_s)
        self.reader = ReplyReader(self.wire)
        try:
            self._sign_in(address)
        except BaseException:
            self.wire.close()
            raise

    def call(self, *words: str) -> Reply:
        """One short command and its reply; an error reply is a Failure."""
        self.wire.write((command(*(word.encode() for word in words)),))
        return self.reader.read_any()

    def is_stale(self) -> bool:
        """Whether it must not be used again."""
        return not self.reader.is_clean or self.wire.is_stale()

    def _sign_in(self, address: RedisAddress) -> None:
        words = [word for word in (address.username, address.password) if word]
        for request in (["AUTH", *words] if words else [], ["SELECT", str(address.db)] if address.db else []):
            reply = self.call(*request) if request else b"OK"
            if isinstance(reply, Failure):
                raise DataPathError(Reason.DENIED, f"{address}: {reply.detail}")


class ConnectionPool:
    """The connections to one server: opened when asked for, at most `limits.connections`, lent to one user each."""

    def __init__(self, address: RedisAddress, limits: Limits) -> None:
        self.address = address
        self._limits = limits
        self._room = threading.BoundedSemaphore(limits.connections)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    def borrow(self, wanted: int) -> list[Connection]:
        """One to `wanted` connections, each to be given back or discarded.

        Waits `timeout_s` for the first, not for the others. Raises DataPathError: BUSY, or why none can be opened.
        """
        if not self._room.acquire(timeout=self._limits.timeout_s):
            raise DataPathError(Reason.BUSY, f"all {self._limits.connections} connections to {self.address} are lent")
        lent = [self._take()]
        while len(lent) < wanted and self._room.acquire(blocking=False):
            try:
                lent.append(self._take())
            except DataPathError:
                break
        return lent

    def give_back(self, connection: Connection) -> None:
        """Take back a connection on which no reply is outstanding."""
        with self._lock:
            keep = not self._closed
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.wire.close()
        self._room.release()

    def discard(self, connection: Connection) -> None:
        """Take back a connection that can't be used any more."""
        connection.wire.close()
        self._room.release()

    def close(self) -> None:
        """Close the idle connections now, the lent ones when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.wire.close()

    def _take(self) -> Connection:
        try:
            while (idle := self._pop()) is not None:
                if not idle.is_stale():
                    return idle
                idle.wire.close()
            return Connection(self.address, self._limits)
        except BaseException:
            self._room.release()
            raise

    def _pop(self) -> Connection | None:
        with self._lock:
            if self._closed:
                raise DataPathError(Reason.STOPPED, f"the data path to {self.address} is closed")
            return self._idle.pop() if self._idle else None
