"""One socket to a Redis server: reads straight into the caller's buffers, writes without joining, never waits for ever.

A wire that raised is of no more use: nobody knows how much of a reply it has read.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Protocol

from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.failures import DataPathError, Reason

Buffer = bytes | bytearray | memoryview

# Linux takes at most 1,024 pieces a call.
MAX_PIECES = 512


class Wire(Protocol):
    """A stream of bytes both ways. Every method but `close` raises DataPathError: timeout or unreachable."""

    def read_some(self, views: Sequence[memoryview]) -> int:
        """Read what is there into `views`, one after the other, at least one byte; returns how many."""

    def read_exactly(self, views: Sequence[memoryview]) -> None:
        """Fill all of `views`, one after the other."""

    def write(self, pieces: Sequence[Buffer]) -> None:
        """Send all of `pieces`, one after the other."""

    def is_stale(self) -> bool:
        """Whether an idle wire was closed by the server, or holds bytes nobody asked for."""

    def close(self) -> None:
        """Close it; safe to repeat."""


def connect(address: RedisAddress, connect_timeout_s: float, timeout_s: float) -> Wire:
    """A wire to `address`; each read and write on it may wait `timeout_s`. Raises DataPathError and ConfigError."""
    context = address.tls.context() if address.tls else None
    try:
        plain = _dial(address, connect_timeout_s)
        try:
            if context is not None:
                return TlsWire(context.wrap_socket(plain, server_hostname=address.host), address, timeout_s)
            return PlainWire(plain, address, timeout_s)
        except BaseException:
            plain.close()
            raise
    except OSError as error:
        raise _typed(address, error) from error


def _dial(address: RedisAddress, timeout_s: float) -> socket.socket:
    if not address.path:
        plain = socket.create_connection((address.host, address.port), timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        plain.settimeout(timeout_s)
        plain.connect(address.path)
    except BaseException:
        plain.close()
        raise
    return plain


class PlainWire:
    """A TCP or unix socket that blocks in the kernel: one call a value, however many segments it takes."""

    def __init__(self, plain: socket.socket, address: RedisAddress, timeout_s: float) -> None:
        self._socket = plain
        self._address = address
        plain.settimeout(None)
        limit = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1e6) or 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def read_some(self, views: Sequence[memoryview]) -> int:
        try:
            return self._socket.recvmsg_into(views)[0] or _closed()
        except OSError as error:
            raise _typed(self._address, error) from error

    def read_exactly(self, views: Sequence[memoryview]) -> None:
        rest = sum(view.nbytes for view in views)
        try:
            while rest:
                got = self._socket.recvmsg_into(views, 0, socket.MSG_WAITALL)[0] or _closed()
                rest -= got
                views = after(views, got) if rest else ()
        except OSError as error:
            raise _typed(self._address, error) from error

    def write(self, pieces: Sequence[Buffer]) -> None:
        try:
            if len(pieces) == 1:
                self._socket.sendall(pieces[0])
                return
            views = [memoryview(piece) for piece in pieces]
            while views:
                batch, later = views[:MAX_PIECES], views[MAX_PIECES:]
                views = after(batch, self._socket.sendmsg(batch)) + later
        except OSError as error:
            raise _typed(self._address, error) from error

    def is_stale(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        self._socket.close()


class TlsWire:
    """A TLS socket: a record at a time, decrypted into the caller's buffers."""

    def __init__(self, secure: ssl.SSLSocket, address: RedisAddress, timeout_s: float) -> None:
        self._socket = secure
        self._address = address
        self._timeout_s = timeout_s
        secure.settimeout(timeout_s)

    def read_some(self, views: Sequence[memoryview]) -> int:
        try:
            return self._socket.recv_into(views[0]) or _closed()
        except OSError as error:
            raise _typed(self._address, error) from error

    def read_exactly(self, views: Sequence[memoryview]) -> None:
        for view in views:
            filled = 0
            while filled < view.nbytes:
                filled += self.read_some((view[filled:],))

    def write(self, pieces: Sequence[Buffer]) -> None:
        try:
            for piece in pieces:
                self._socket.sendall(piece)
        except OSError as error:
            raise _typed(self._address, error) from error

    def is_stale(self) -> bool:
        # A TLS session ticket may wait unread on a healthy wire, so an unreadable one is what counts.
        try:
            self._socket.settimeout(0)
            self._socket.recv(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        finally:
            self._socket.settimeout(self._timeout_s)
        return True

    def close(self) -> None:
        self._socket.close()


def after(views: Sequence[memoryview], count: int) -> list[memoryview]:
    """What is left of `views` once their first `count` bytes are done."""
    left: list[memoryview] = []
    for view in views:
        if count < view.nbytes:
            left.append(view[count:])
        count = max(0, count - view.nbytes)
    return left


def _closed() -> int:
    raise ConnectionResetError("the server closed the connection")


def _typed(address: RedisAddress, error: OSError) -> DataPathError:
    """What an OSError means. A kernel timeout is EAGAIN on a blocking socket."""
    if isinstance(error, TimeoutError | BlockingIOError | ssl.SSLWantReadError):
        return DataPathError(Reason.TIMEOUT, f"{address} did not answer in time")
    return DataPathError(Reason.UNREACHABLE, f"{address}: {error}")
