"""Makes the preprocess plug-in of a model folder."""

from __future__ import annotations

import os
from collections.abc import Mapping

from services.preprocess.registry import PREPROCESSORS
from services.preprocess.settings import PreprocessSettings
from stagemesh.plugins import load_plugin
from stagemesh.repository import Batching, ModelFolder
from stagemesh.stage.kind import PREPROCESS
from stagemesh.stage.loading import StageLoader
from stagemesh.stage.runner import Runner


def loader(settings: PreprocessSettings) -> StageLoader:
    """One thread for each worker; plug-ins run on as many requests side by side."""
    return StageLoader(PREPROCESS, "stagemesh_plugin", settings.workers or os.cpu_count() or 1, _load)


def _load(folder: ModelFolder, table: Mapping[str, object], policy: Batching) -> Runner:
    return load_plugin("preprocess", folder, table, PREPROCESSORS)
