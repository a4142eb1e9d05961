"""The mesh that tests share which do it no harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.processes import ROOT, Mesh, running_mesh


@pytest.fixture(scope="session")
def mesh() -> Iterator[Mesh]:
    """One mesh with the demo repository for the whole session: don't break it."""
    with running_mesh() as running:
        yield running


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of the example photos."""
    return ROOT / "examples" / "photos"
