"""Makes the preprocess plug-in of a model folder."""

from __future__ import annotations

from collections.abc import Mapping

from services.preprocess.registry import PREPROCESSORS
from services.preprocess.resize import one_thread
from services.preprocess.settings import PreprocessSettings
from stagemesh.machine import cores
from stagemesh.plugins import load_plugin
from stagemesh.repository import Batching, ModelFolder
from stagemesh.stage.kind import PREPROCESS
from stagemesh.stage.loading import StageLoader
from stagemesh.stage.runner import Runner


def loader(settings: PreprocessSettings) -> StageLoader:
    """One thread for each worker; plug-ins run on as many requests side by side, OpenCV without more."""
    one_thread()
    return StageLoader(PREPROCESS, "stagemesh_plugin", settings.workers or cores(), _load)


def _load(folder: ModelFolder, table: Mapping[str, object], policy: Batching) -> Runner:
    return load_plugin("preprocess", folder, table, PREPROCESSORS)
