"""Ask a Redis on a unix socket whether it answers, without ever blocking; used as `Probe` is."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

from stagemesh.cli.probe import ServerState


class RedisProbe:
    """One PING at a time, each on a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._problem = ""
        self._deadline = 0.0

    @property
    def pending(self) -> bool:
        """Whether a question is under way."""
        return self._socket is not None or bool(self._problem)

    def ask(self, timeout_s: float) -> None:
        """Send the question; `answer` has the result some time within `timeout_s`."""
        self._deadline = time.monotonic() + timeout_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect(str(self._path))
            self._socket.send(b"PING\r\n")
        except OSError as error:
            self._fail(str(error))

    def answer(self) -> ServerState | None:
        """What Redis answered, once; None before."""
        if self._socket is not None:
            try:
                reply = self._socket.recv(64)
                self.forget()
                return ServerState(serving=reply.startswith(b"+PONG"), problem="" if reply else "no answer")
            except BlockingIOError:
                if time.monotonic() > self._deadline:
                    self._fail("no answer in time")
            except OSError as error:
                self._fail(str(error))
        if not self._problem:
            return None
        problem, self._problem = self._problem, ""
        return ServerState(problem=problem)

    def forget(self) -> None:
        """Drop a question under way."""
        self._problem = ""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    close = forget

    def _fail(self, problem: str) -> None:
        self.forget()
        self._problem = problem
