"""Makes the postprocess plug-in of a model folder."""

from __future__ import annotations

from collections.abc import Mapping

from services.postprocess.registry import POSTPROCESSORS
from services.postprocess.settings import PostprocessSettings
from stagemesh.machine import cores
from stagemesh.plugins import load_plugin
from stagemesh.repository import Batching, ModelFolder
from stagemesh.stage.kind import POSTPROCESS
from stagemesh.stage.loading import StageLoader
from stagemesh.stage.runner import Runner


def loader(settings: PostprocessSettings) -> StageLoader:
    """One thread for each worker; plug-ins run on as many requests side by side."""
    return StageLoader(POSTPROCESS, "stagemesh_plugin", settings.workers or cores(), _load)


def _load(folder: ModelFolder, table: Mapping[str, object], policy: Batching) -> Runner:
    return load_plugin("postprocess", folder, table, POSTPROCESSORS)
