"""The wheel that others install holds the SDK alone, typed and complete."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.mesh.processes import ROOT, ServiceProcess, running

pytestmark = pytest.mark.xdist_group("wheel")

SOURCES = ("pyproject.toml", "README.md", "LICENSE")
FILES = {
    "stagemesh/__init__.py",
    "stagemesh/py.typed",
    "stagemesh/oip/open_inference.binpb",
    "stagemesh/oip/open_inference_pb2.pyi",
}

USE = """
import sys
import numpy as np
import stagemesh
from stagemesh import Client
with Client(sys.argv[1]) as client:
    result = client.infer("classify", {"logits": np.eye(1000, dtype=np.float32)[[967]]}, parameters={"top_k": 1})
print(stagemesh.__file__)
print(result["labels"][0, 0].decode())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy, because a build leaves files in the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for package in ("stagemesh", "services"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "-q", "-w", out]
    end = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert end.returncode == 0, end.stderr
    (built,) = out.iterdir()
    return built


def test_it_holds_the_sdk_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    assert {name.split("/")[0] for name in names} == {
        "stagemesh",
        wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info",
    }
    code = {name for name in names if name.startswith("stagemesh/")}
    assert code >= FILES
    assert {Path(name).suffix or Path(name).name for name in code} == {".py", ".typed", ".binpb", ".pyi"}
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "stagemesh").rglob("*.py")}
    assert {name for name in code if name.endswith(".py")} == here


def test_its_client_works_without_the_sources(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    service = ServiceProcess("postprocess")
    with running(service):
        end = subprocess.run(
            [sys.executable, "-c", USE, service.target],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert end.returncode == 0, end.stderr
    file, label = end.stdout.splitlines()
    assert Path(file).is_relative_to(tmp_path)
    assert label == "espresso"
