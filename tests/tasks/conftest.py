"""The demo repository behind one gateway."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from stagemesh import Client
from tests.mesh.processes import MODELS, running_mesh


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gateway of a mesh that serves every demo model, run by our own engine.

    Left to itself a mesh would first time every backend that can run a model.
    """
    repository = tmp_path_factory.mktemp("demo") / "models"
    shutil.copytree(MODELS, repository, ignore=shutil.ignore_patterns("__pycache__"))
    for toml in repository.glob("*/model.toml"):
        toml.write_text(re.sub(r"^\[infer\]$", '[infer]\nbackend = "eager"', toml.read_text(), flags=re.MULTILINE))
    with running_mesh(models=repository) as mesh:
        yield mesh.target


@pytest.fixture(scope="session")
def client(target: str) -> Iterator[Client]:
    """A client of that mesh."""
    with Client(target) as client:
        yield client
