"""One process that is kept alive: started, asked for its health, restarted when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from enum import StrEnum

from stagemesh.cli.local.commands import ProcessSpec
from stagemesh.cli.local.redis_probe import RedisProbe
from stagemesh.cli.probe import Probe, ServerState

MAX_FAILURES = 5
# A service says with it that a setting is wrong or a port taken: another start would end the same way.
_EXIT_CONFIG = 2
_FIRST_BACKOFF_S = 0.2
_MAX_BACKOFF_S = 10.0
_ASK_STARTING_S = 0.25
_ASK_READY_S = 1.0
_ASK_TIMEOUT_S = 2.0
_TAIL_BYTES = 8192


class State(StrEnum):
    """What a row of the table says; READY is the only one that takes requests."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not ready"
    RESTARTING = "restarting"
    GIVEN_UP = "given up"
    STOPPED = "stopped"


class Child:
    """A process spec and the process that runs it now. `tick` never blocks; call it some times a second.

    `report` gets one sentence for each change worth a line.
    """

    def __init__(self, spec: ProcessSpec, report: Callable[[str], None]) -> None:
        self.spec = spec
        self.state = State.WAITING
        self.restarts = 0
        self.server = ServerState()
        self._report = report
        self._process: subprocess.Popen[bytes] | None = None
        self._probe = RedisProbe(spec.socket) if spec.socket else Probe(spec.place.address)
        # Starts in a row that ended before the service was ready.
        self._failures = 0
        self._started = 0.0
        self._next = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def name(self) -> str:
        return self.spec.place.name

    def tick(self, now: float) -> None:
        """Start what is due, notice an end, take in the answer of the last health question."""
        if self.state is State.GIVEN_UP:
            return
        if self._process is None:
            if now >= self._next:
                self._start(now)
        elif (code := self._process.poll()) is not None:
            self._ended(code, now)
        else:
            self._ask(now)

    def terminate(self) -> None:
        """Ask the process to drain and end."""
        if self._process and self.running():
            self._process.terminate()

    def kill(self) -> None:
        """End the process and whatever it started."""
        if self._process:
            _kill_group(self._process.pid)
            self._process.wait()

    def running(self) -> bool:
        """Whether a process is left."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """End what a process stopped on purpose has left behind."""
        self.kill()
        self._probe.close()
        if self.state is not State.GIVEN_UP:
            self.state = State.STOPPED

    def refusals(self) -> list[str]:
        """Why a service that has loaded its models does not become ready: a sentence for each model it refuses."""
        models = self.server.models
        if self.server.serving or any(model.state == "LOADING" for model in models):
            return []
        return [f"{self.name} does not serve '{m.name}': {m.reason}" for m in models if m.state == "UNAVAILABLE"]

    def last_lines(self, count: int = 15) -> str:
        """The end of the log file."""
        try:
            with self.spec.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-count:])

    def _start(self, now: float) -> None:
        self.state, self._started, self._next = State.STARTING, now, now
        with self.spec.log.open("ab" if self.restarts else "wb") as log:
            self._process = subprocess.Popen(
                self.spec.command,
                cwd=self.spec.cwd,
                env=dict(self.spec.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which
                # drains in order, and a kill of the group takes the child's own children along.
                start_new_session=True,
            )

    def _ended(self, code: int, now: float) -> None:
        pid, was_ready = self.pid, self.state in (State.READY, State.NOT_READY)
        self.kill()
        self._process, self.server = None, ServerState()
        self._probe.forget()
        self._failures = 1 if was_ready else self._failures + 1
        end = f"{self.name} (pid {pid}) {_describe_end(code)}"
        if self._failures >= MAX_FAILURES or (code == _EXIT_CONFIG and not was_ready):
            self.state = State.GIVEN_UP
            self._report(f"{end}; given up, log: {self.spec.log}")
            return
        wait = min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** (self._failures - 1))
        self.state, self._next = State.RESTARTING, now + wait
        self.restarts += 1
        self._report(f"{end}; restarting in {wait:.1f} s, log: {self.spec.log}")

    def _ask(self, now: float) -> None:
        if (server := self._probe.answer()) is not None:
            self.server = server
            self._take(server.ready, now)
        if now >= self._next and not self._probe.pending:
            self._probe.ask(_ASK_TIMEOUT_S)
            self._next = now + (_ASK_READY_S if self.state is State.READY else _ASK_STARTING_S)

    def _take(self, ready: bool, now: float) -> None:
        if ready and self.state is not State.READY:
            self._report(f"{self.name} (pid {self.pid}) is ready after {now - self._started:.1f} s")
            self.state = State.READY
        elif not ready and self.state is State.READY:
            self._report(f"{self.name} (pid {self.pid}) is not ready any more")
            self.state = State.NOT_READY


def _kill_group(leader: int) -> None:
    """Kill a process and its children, or those it left when it ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"
