"""`stagemesh up` in a process of its own, watched from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil


class Up:
    """One running `stagemesh up`; a context manager that leaves no process behind."""

    def __init__(self, *arguments: str, cwd: Path, logs: Path, env: Mapping[str, str] | None = None) -> None:
        self._stderr = logs / "up.stderr"
        self._stdout = logs / "up.stdout"
        command = [sys.executable, "-m", "stagemesh", "up", "--log-dir", str(logs), *arguments]
        with self._stderr.open("w") as stderr, self._stdout.open("w") as stdout:
            self.process = subprocess.Popen(
                command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=stdout, stderr=stderr
            )
        self._seen: dict[int, psutil.Process] = {}

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self.left():
            process.kill()
        self.process.kill()
        self.process.wait()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    def children(self) -> list[psutil.Process]:
        """Every process below `up`, remembered for `left`."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        self._seen.update((process.pid, process) for process in found)
        return found

    def child(self, service: str) -> psutil.Process:
        return next(child for child in self.children() if f"services.{service}" in child.cmdline())

    def left(self) -> list[psutil.Process]:
        """The processes once seen that still run."""
        return [process for process in self._seen.values() if _runs(process)]

    def wait_for(self, text: str, timeout_s: float = 60.0) -> None:
        """Until `up` has said it."""
        wait_until(lambda: text in self.stderr or self.process.poll() is not None, timeout_s)
        assert text in self.stderr, self.stderr

    def end(self, number: signal.Signals, timeout_s: float = 30.0) -> int:
        """Send a signal; the exit code."""
        self.children()
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


def wait_until(done: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"not so after {timeout_s} s"
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
