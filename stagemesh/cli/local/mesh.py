"""The supervisor of a local mesh: one thread that keeps every child alive and drains them in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from stagemesh.cli.local.child import Child, State
from stagemesh.cli.local.commands import ProcessSpec
from stagemesh.errors import StagemeshError

READY_TIMEOUT_S = 900.0
_TICK_S = 0.1
# A service whose loading is over is ready a moment later, if at all.
_REFUSED_S = 3.0
DRAIN_TIMEOUT_S = 20.0


class MeshFailed(StagemeshError):
    """A service of the local mesh can't be kept running; the message ends with its last log lines."""

    default_reason = "MESH_FAILED"


class LocalMesh:
    """The services of one machine as child processes; a context manager that starts and drains them.

    Children are forked by the supervisor's thread, and that thread ends last: Linux ties a child's
    parent-death signal to the thread that forked it.
    """

    def __init__(self, specs: Sequence[ProcessSpec], report: Callable[[str], None]) -> None:
        self.children = [Child(spec, report) for spec in specs]
        self._stop = threading.Event()
        self._hurry = False
        self._thread = threading.Thread(target=self._run, name="stagemesh-supervisor", daemon=True)

    def __enter__(self) -> LocalMesh:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def ready(self) -> bool:
        """Whether every service answers SERVING."""
        return all(child.state is State.READY for child in self.children)

    def check(self) -> None:
        """Raise MeshFailed once a child was given up."""
        for child in self.children:
            if child.state is State.GIVEN_UP:
                log = child.last_lines() or "(its log is empty)"
                raise MeshFailed(f"{child.name} does not start; the end of {child.spec.log}:\n{log}")
        if not self._thread.is_alive() and not self._stop.is_set():
            raise MeshFailed("the supervisor of the local mesh has ended unexpectedly")

    def wait_until_ready(self, timeout_s: float, look: Callable[[], None] = lambda: None) -> None:
        """Return once every service is ready, calling `look` now and then.

        Raises MeshFailed when a service can't be kept running, refuses a model it needs, or takes too long.
        """
        deadline = time.monotonic() + timeout_s
        refused_since = float("inf")
        while not self.ready:
            self.check()
            now = time.monotonic()
            if now > deadline:
                raise MeshFailed(f"not all services are ready after {timeout_s:.0f} s")
            refusals = [refusal for child in self.children for refusal in child.refusals()]
            refused_since = min(refused_since, now) if refusals else float("inf")
            if now - refused_since > _REFUSED_S:
                raise MeshFailed("; ".join(refusals))
            time.sleep(_TICK_S)
            look()

    def stop(self) -> None:
        """Drain: the gateway first, then the stages, then what they store in. Returns when no process is left."""
        self._stop.set()
        self._thread.join()

    def hurry(self) -> None:
        """Have the drain kill instead of wait. Safe in a signal handler: it takes no lock."""
        self._hurry = True

    def _run(self) -> None:
        try:
            while not self._stop.wait(_TICK_S):
                now = time.monotonic()
                for child in self.children:
                    child.tick(now)
        finally:
            self._drain()

    def _drain(self) -> None:
        doors = [child for child in self.children if child.spec.place.service == "gateway"]
        stores = [child for child in self.children if child.spec.socket]
        stages = [child for child in self.children if child not in (*doors, *stores)]
        for group in (doors, stages, stores):
            for child in group:
                child.terminate()
            self._wait_for_end(group)

    def _wait_for_end(self, group: Sequence[Child]) -> None:
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while any(child.running() for child in group):
            if self._hurry or time.monotonic() > deadline:
                for child in group:
                    child.kill()
            time.sleep(0.05)
        for child in group:
            child.close()
