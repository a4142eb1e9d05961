"""The life of a server's models where a change fails in a way nobody foresaw."""

from __future__ import annotations

from pathlib import Path

import pytest

from stagemesh.repository import ModelFolder
from stagemesh.settings import ServiceSettings
from stagemesh.stage.house import House
from stagemesh.stage.lifecycle import Lifecycle
from stagemesh.stage.model import ServedModel
from stagemesh.stage.model_table import ModelTable, State
from stagemesh.stage.route import Router
from stagemesh.telemetry import Metrics


class Maker:
    """Never gets to make a model."""

    def serves(self, folder: ModelFolder) -> bool:
        return True

    async def make(self, house: House, folder: ModelFolder) -> ServedModel:
        raise AssertionError("the load was to fail before")


class Unprepared(Lifecycle):
    """Has a bug in a step before the model is made."""

    async def prepare(self, folder: ModelFolder, generation: str) -> None:
        raise KeyError("infer")


async def test_a_load_that_ends_in_a_bug_leaves_no_model_loading(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.toml").write_text('[model]\ntask = "custom"\n[preprocess]\nplugin = "image"\n')
    table = ModelTable()
    lifecycle = Unprepared(House(ServiceSettings(models=tmp_path), table, Router({}), {}, Metrics("stage")), Maker())
    with pytest.raises(KeyError):
        await lifecycle.load("m")
    assert (table.entry("m").state, table.entry("m").reason) == (State.UNAVAILABLE, "KeyError('infer')")
    await lifecycle.close()
