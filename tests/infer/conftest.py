"""The demo model with its real weights, loaded once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.infer.device import cap_threads, select_device
from services.infer.network import Network, load_network
from stagemesh.repository import read_model, split_batching
from stagemesh.settings import default_cache

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cache() -> Path:
    """The user's own cache, so that the real weights are fetched once and not at each run."""
    return Path(os.environ.get("STAGEMESH_CACHE") or default_cache())


@pytest.fixture(scope="session")
def classify(cache: Path) -> Network:
    cap_threads(2)
    folder = read_model(ROOT / "models" / "classify")
    _, table = split_batching(folder.table("infer"), folder.where("infer"))
    return load_network(folder, table, select_device("cpu"), cache)
