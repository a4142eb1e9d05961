"""`stagemesh kv` against a running pool, and a mesh that brings a pool of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stagemesh.cli.main import main
from stagemesh.client.kv import KvClient
from stagemesh.client.kv_blocks import KvBlocks
from tests.kvstore_service.backends import SPEC, backend, chain, kvstore
from tests.mesh.processes import ROOT

pytestmark = pytest.mark.xdist_group("kvstore_client")


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with backend("unix", Path()) as made, kvstore(made) as (process,):
        yield process.target


def test_stats_ls_and_purge(target: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = chain(3)
    with KvClient(target) as client:
        blocks = KvBlocks(client, SPEC, tenant="acme [red]", model="chat")
        blocks.put(wanted.blocks)
        blocks.match(wanted.links, lease_ms=60_000)
    monkeypatch.setenv("STAGEMESH_KVSTORE_TARGET", target)
    assert main(["kv", "stats", "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["blocks"], stats["bytes"], stats["leases"]) == (3, 3 * SPEC.value_size, 1)
    assert stats["tenant_bytes"] == {"acme [red]": 3 * SPEC.value_size}
    assert main(["kv", "stats"]) == 0
    assert "3 reserved" in (shown := capsys.readouterr().out) and "tenant 'acme [red]'" in shown
    assert main(["kv", "ls", "--json", "--limit", "0"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {block["chain"] for block in listed} == {link.chain.hex() for link in wanted.links}
    assert main(["kv", "ls", "--tenant", "nobody"]) == 0
    assert "acme" not in capsys.readouterr().out
    assert main(["kv", "ls"]) == 0
    assert "lent 1" in capsys.readouterr().out
    assert main(["kv", "purge", "--tenant", "acme [red]"]) == 0
    assert "3 blocks removed" in capsys.readouterr().out
    assert main(["kv", "purge"]) == 1
    assert "expected a tenant or a model" in capsys.readouterr().err


def test_nobody_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kv", "stats", "--target", "127.0.0.1:1"]) == 1
    assert "out of reach" in capsys.readouterr().err


def test_a_mesh_brings_its_own_pool(tmp_path: Path) -> None:
    folder = tempfile.mkdtemp(prefix="kv")
    command = [sys.executable, "-m", "stagemesh", "up", "--models", "classify", "--replicas", "kvstore=2"]
    command += ["--port-base", "0", "--log-dir", str(tmp_path), "--", "kv", "stats", "--json"]
    end = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": folder},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert end.returncode == 0, end.stderr
    assert json.loads(end.stdout)["capacity_bytes"] == 1 << 30
    assert "kvstore-1" in end.stderr and "redis-0" in end.stderr
    assert not list(Path(folder).glob("stagemesh-redis-*"))
    shutil.rmtree(folder)
