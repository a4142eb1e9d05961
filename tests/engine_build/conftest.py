"""One small network, and an AOTInductor engine of it that is compiled once and kept in the user's cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.infer.engine.builder import EngineBuilder
from services.infer.engine.engine import Engine
from services.infer.engine.program import AOTINDUCTOR
from services.infer.engine.store import EngineStore
from stagemesh.cli.fetch import cache_folder
from tests.engine_build.tiny import config, identity, network


@pytest.fixture(scope="session")
def compiled() -> tuple[Path, Engine]:
    """The cache that holds the compiled engine, and the engine."""
    cache = cache_folder()
    return cache, EngineBuilder(EngineStore(cache)).build(network(), config(AOTINDUCTOR, compiles=True))


@pytest.fixture
def compiled_copy(compiled: tuple[Path, Engine], tmp_path: Path) -> Path:
    """A cache of its own with a copy of that engine, to spoil."""
    cache, _ = compiled
    shutil.copytree(EngineStore(cache).folder(identity()), EngineStore(tmp_path).folder(identity()))
    return tmp_path
