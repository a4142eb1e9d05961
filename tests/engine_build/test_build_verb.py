"""`stagemesh build`: progress, exit codes, and an engine that a service then finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.infer.build import EXIT_CONFIG, EXIT_FAILED

ROOT = Path(__file__).parents[2]
TOML = """
[model]
task = "custom"
[infer]
source = "weights.pth"
arch = "file:net.py:net"
outputs = ["mean"]
size = [16, 16]
max_batch = 4
"""
NET = """
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))

def net():
    return Net()
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one small model."""
    torch = pytest.importorskip("torch")
    folder = tmp_path / "models" / "small"
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(TOML)
    (folder / "net.py").write_text(NET)
    torch.save({}, folder / "weights.pth")
    return folder.parent


def build(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verb where no compiler is found, so that the test is quick."""
    command = [sys.executable, "-m", "stagemesh", "build", "--repository", str(repository)]
    command += ["--cache", str(repository.parent / "cache"), "--threads", "2", *arguments]
    env = {**os.environ, "CXX": "no-such-compiler"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)


def test_a_build_shows_its_steps_and_leaves_an_engine(repository: Path) -> None:
    first = build(repository, "small")
    assert first.returncode == 0, first.stderr
    assert "model 'small': built for" in first.stdout
    assert "model 'small': timing eager, onnxruntime" in first.stderr
    assert "aotinductor is no candidate: a build needs a C++ compiler, and there is none here" in first.stderr
    assert list((repository.parent / "cache" / "engines").glob("small-*/manifest.json"))


def test_a_model_that_cannot_run_fails_alone(repository: Path) -> None:
    broken = repository / "broken"
    broken.mkdir()
    (broken / "model.toml").write_text(TOML.replace("weights.pth", "gone.pth"))
    end = build(repository)
    assert end.returncode == EXIT_FAILED
    assert "model 'broken': no engine: " in end.stderr
    assert "gone.pth" in end.stderr
    assert "model 'small': built for" in end.stdout


def test_an_unknown_model_is_named(repository: Path) -> None:
    end = build(repository, "large")
    assert end.returncode == EXIT_CONFIG
    assert "unknown model 'large'" in end.stderr
