"""A private redis-server on a unix socket, as a process of its own, for tests and benchmarks."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 20


@contextmanager
def redis_server(*options: str) -> Iterator[str]:
    """Run redis-server without persistence or network while the block lasts; the path of its socket."""
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError("expected redis-server on PATH, found none: install the package redis-server")
    with tempfile.TemporaryDirectory(prefix="kv-") as folder:
        path = Path(folder) / "redis.sock"
        command = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
        command += ["--dir", folder, "--maxmemory-policy", "noeviction", *options]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            give_up = time.monotonic() + START_S
            while not path.exists():
                if process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"redis-server did not start: {(Path(folder) / 'log').read_text()}")
                time.sleep(0.02)
            yield str(path)
        finally:
            process.terminate()
            process.wait(START_S)
