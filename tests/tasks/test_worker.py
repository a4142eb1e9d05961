"""The four-line way, against a running mesh and with a mesh of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from stagemesh import InvalidInput, Worker
from stagemesh.errors import ConfigError
from tests.mesh.processes import ROOT
from tests.mesh.repositories import add_model, blocks_photo
from tests.tasks.photos import photo

SCRIPT = """
import sys
from stagemesh import Worker
worker = Worker("blocks", repository=sys.argv[1]).load_image(sys.argv[2])
result = worker.infer()
worker.display_result(sys.argv[3])
print(*result["class_ids"][0])
"""


@pytest.mark.xdist_group("demo-mesh")
def test_photo_to_picture(target: str, tmp_path: Path) -> None:
    with Worker("detect", target).load_image(photo("bus.jpg")) as worker:
        assert worker.infer(score_threshold=0.7)["count"].tolist() == [2]
        worker.display_result(tmp_path / "out.png")
        assert worker.load_image(photo("zidane.jpg").read_bytes()).display_result(tmp_path / "two.png").width == 1280
    assert Image.open(tmp_path / "out.png").size == (810, 1080)


def test_a_photo_comes_first() -> None:
    with Worker("detect", "127.0.0.1:1") as worker, pytest.raises(InvalidInput, match="call load_image first"):
        worker.infer()


def test_an_unknown_model_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown model 'blocks'; known models: none"):
        Worker("blocks", repository=tmp_path)


def test_a_mesh_of_its_own_ends_with_the_program(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    add_model(repository, "blocks")
    photo_bytes, class_ids, _ = blocks_photo(1)
    (tmp_path / "photo.png").write_bytes(photo_bytes)
    paths = [str(repository), str(tmp_path / "photo.png"), str(tmp_path / "out.png")]
    env = {**os.environ, "WORKER_TEST": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT, *paths]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [str(i) for i in class_ids]), done.stderr
    assert np.asarray(Image.open(paths[2])).any()
    time.sleep(0.2)
    left = [process for process in psutil.process_iter() if _environment(process).get("WORKER_TEST") == str(tmp_path)]
    assert left == []


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}
