"""RESP2 as far as blocks need it: requests as bytes, replies read straight into the caller's buffers."""

from __future__ import annotations

from dataclasses import dataclass

from stagemesh.kvdata.failures import DataPathError, Failure, Reason, refusal
from stagemesh.kvdata.wire import Wire, after

Reply = bytes | int | None | Failure | list["Reply"]

# Small, since what is read ahead of a value is copied twice; large enough for a row of short replies.
READ_AHEAD = 64
MAX_LINE = 64 * 1024
MAX_BULK = 512 * 1024 * 1024
MAX_ITEMS = 1 << 20
MAX_DEPTH = 8
SCRATCH_BYTES = 256 * 1024

CRLF = b"\r\n"
ASKING = b"*1\r\n$6\r\nASKING\r\n"


@dataclass(frozen=True, slots=True)
class Redirect:
    """Redis Cluster says that another server has the slot: for good (MOVED), or for this once (ASK)."""

    slot: int
    host: str
    port: int
    ask: bool


def command(*words: bytes) -> bytes:
    """A request of short words."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def get_request(key: bytes) -> bytes:
    """A request to GET a key."""
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key)


def set_request(key: bytes, size: int, expire_ms: int = 0) -> tuple[bytes, bytes]:
    """What goes before and after a value of `size` bytes to SET it, with PX where `expire_ms` isn't 0."""
    words, tail = (5, b"\r\n$2\r\nPX\r\n$%d\r\n%d\r\n" % (len(str(expire_ms)), expire_ms)) if expire_ms else (3, CRLF)
    return b"*%d\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n" % (words, len(key), key, size), tail


class ReplyReader:
    """The replies on one wire, in order. Raises DataPathError for what RESP doesn't allow; the wire is done then."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._small = memoryview(bytearray(READ_AHEAD))
        self._crlf = memoryview(bytearray(2))
        self._expected = b""
        self._head = memoryview(b"")
        self._size = -1
        # What was read ahead, from _start to _end.
        self._ahead = self._small
        self._start = self._end = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was read ahead."""
        return self._start == self._end

    def read_value(self, target: memoryview) -> memoryview | Failure | Redirect:
        """The reply of a GET: the part of `target` it fills; MISSING, OVERSIZED (and skipped), or a refusal.

        A value that fills the target is mostly one system call; after any other reply `target` may hold anything.
        """
        if self._start == self._end and self._read_expected(target):
            return target
        line = self._line()
        if not line.startswith(b"$"):
            return self._refused(line)
        size = _integer(line)
        if size < 0:
            return Failure(Reason.MISSING)
        if size > target.nbytes:
            self._skip(size)
            return Failure(Reason.OVERSIZED, f"expected at most {target.nbytes} bytes, found {size}")
        view = target[:size]
        self._fill(view)
        return view

    def read_status(self) -> Failure | Redirect | None:
        """The reply of a SET or of ASKING."""
        line = self._line()
        return None if line.startswith(b"+") else self._refused(line)

    def read_any(self, depth: int = 0) -> Reply:
        """Any reply of a few items; an error reply is a Failure."""
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return refusal(rest.decode("utf-8", "replace"))
        size = _integer(line)
        if kind == b":":
            return size
        if kind == b"$":
            return self._bytes(size) if size >= 0 else None
        if kind == b"*" and size <= MAX_ITEMS and depth < MAX_DEPTH:
            return [self.read_any(depth + 1) for _ in range(size)] if size >= 0 else None
        raise _broken(line)

    def _read_expected(self, target: memoryview) -> bool:
        """Read a reply that fills `target`, betting that it does; a lost bet is read ahead."""
        size = target.nbytes
        if size != self._size:
            self._size, self._expected = size, b"$%d\r\n" % size
            self._head = memoryview(bytearray(len(self._expected)))
        views = (self._head, target, self._crlf)
        got = self._wire.read_some(views)
        if got < len(self._expected) or self._head != self._expected:
            self._ahead = memoryview(b"".join(views)[:got])
            self._start, self._end = 0, got
            return False
        if got < len(self._expected) + size + 2:
            self._wire.read_exactly(after(views, got))
        if self._crlf != CRLF:
            raise _broken(bytes(self._crlf))
        return True

    def _refused(self, line: bytes) -> Failure | Redirect:
        if not line.startswith(b"-"):
            raise _broken(line)
        text = line[1:].decode("utf-8", "replace")
        word, _, rest = text.partition(" ")
        return _redirect(line, rest, word == "ASK") if word in ("MOVED", "ASK") else refusal(text)

    def _bytes(self, size: int) -> bytes:
        data = bytearray(size)
        self._fill(memoryview(data))
        return bytes(data)

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(CRLF):
            if len(line) > MAX_LINE:
                raise _broken(line)
            if self._start == self._end:
                self._ahead = self._small
                self._start, self._end = 0, self._wire.read_some((self._small,))
            chunk = bytes(self._ahead[self._start : min(self._end, self._start + READ_AHEAD)])
            chunk = chunk[: chunk.find(b"\n") + 1] or chunk
            self._start += len(chunk)
            line += chunk
        return line[:-2]

    def _fill(self, view: memoryview) -> None:
        buffered = min(self._end - self._start, view.nbytes)
        view[:buffered] = self._ahead[self._start : self._start + buffered]
        self._start += buffered
        if self._start == self._end:
            self._wire.read_exactly((view[buffered:], self._crlf))
        else:
            self._end_of_value()
        if self._crlf != CRLF:
            raise _broken(bytes(self._crlf))

    def _end_of_value(self) -> None:
        ready = bytes(self._ahead[self._start : self._start + 2])
        self._start += len(ready)
        self._crlf[: len(ready)] = ready
        if len(ready) < 2:
            self._wire.read_exactly((self._crlf[len(ready) :],))

    def _skip(self, size: int) -> None:
        scratch = memoryview(bytearray(min(size, SCRATCH_BYTES)))
        while size > SCRATCH_BYTES:
            buffered = self._end - self._start
            taken = min(buffered, size) or self._wire.read_some((scratch,))
            self._start += min(buffered, taken)
            size -= taken
        self._fill(scratch[:size])


def _integer(line: bytes) -> int:
    digits = line[1:]
    if not (digits.isdigit() or (digits[:1] == b"-" and digits[1:].isdigit())) or len(digits) > 20:
        raise _broken(line)
    number = int(digits)
    if line.startswith(b"$") and number > MAX_BULK:
        raise _broken(line)
    return number


def _redirect(line: bytes, text: str, ask: bool) -> Redirect:
    slot, _, address = text.partition(" ")
    host, _, port = address.rpartition(":")
    if not slot.isdecimal() or not port.isdecimal():
        raise _broken(line)
    return Redirect(int(slot), host, int(port), ask)


def _broken(line: bytes) -> DataPathError:
    return DataPathError(Reason.PROTOCOL, f"expected a RESP reply, found {line[:64]!r}")
