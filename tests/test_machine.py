"""Cores and the allocator, seen by processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from stagemesh.machine import ALLOCATOR, cores
from tests.mesh.processes import ROOT

ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from stagemesh.machine import cores
print(cores())
"""
RESTARTED = """
import os, sys
from bench.processes import restart_with_allocator
print("started", flush=True)
restart_with_allocator()
print(*(os.environ[name] for name in sys.argv[1:]))
"""


def lines(code: str, *arguments: str, env: Mapping[str, str] = os.environ) -> list[str]:
    """What `code` prints."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds a process to cores")
def test_cores_are_those_of_the_process() -> None:
    assert lines(ONE_CORE) == ["1"]
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_a_benchmark_starts_again_with_the_allocator_settings_once() -> None:
    bare = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    values = " ".join(ALLOCATOR.values())
    assert lines(RESTARTED, *ALLOCATOR, env=bare) == ["started", "started", values]
    assert lines(RESTARTED, *ALLOCATOR, env=bare | ALLOCATOR) == ["started", values]
