"""Filling a stage's table: each model folder becomes a served model, or is refused with the reason."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stagemesh.errors import ConfigError
from stagemesh.repository import Batching, ModelFolder, read_repository, split_batching
from stagemesh.stage.kind import StageKind
from stagemesh.stage.model_table import ModelTable
from stagemesh.stage.runner import Runner
from stagemesh.stage.service import House
from stagemesh.stage.stage_model import StageModel

log = logging.getLogger(__name__)

UNREAD_VERSION = "1"
"""The version shown for a folder whose model.toml could not be read."""

Load = Callable[[ModelFolder, Mapping[str, object], Batching], Runner]


@dataclass(frozen=True, slots=True)
class StageLoader:
    """How one stage makes a Runner of a model folder; `load` may block, it runs in a thread."""

    kind: StageKind
    platform: str
    instances: int
    load: Load

    async def fill(self, house: House) -> None:
        """Load the models of the repository into the house's table, one after the other."""
        settings = house.settings
        repository = read_repository(settings.models, settings.model_names)
        folders = keep_readable(house.table, repository)
        served = [folder for folder in folders if self.kind.name in folder.tables]
        for folder in served:
            house.table.loading(folder.name, folder.version)
        for folder in served:
            try:
                house.table.ready(await self._model(house, folder))
            except ConfigError as error:
                log.error("model '%s' is not served: %s", folder.name, error)
                house.table.refuse(folder.name, folder.version, str(error))

    async def _model(self, house: House, folder: ModelFolder) -> StageModel:
        started = time.monotonic()
        policy, table = split_batching(folder.table(self.kind.name), folder.where(self.kind.name))
        runner = await asyncio.to_thread(self.load, folder, table, policy)
        log.info("model '%s' loaded in %.1f s", folder.name, time.monotonic() - started)
        return StageModel(
            folder.name,
            folder.version,
            kind=self.kind,
            platform=self.platform,
            runner=runner,
            policy=policy,
            instances=policy.instances or self.instances,
            router=house.router,
            metrics=house.metrics.model(folder.name),
            default_deadline_s=house.settings.default_deadline_s,
        )


def keep_readable(table: ModelTable, repository: Mapping[str, ModelFolder | ConfigError]) -> list[ModelFolder]:
    """The folders that could be read; the others are refused in the table, with the reason."""
    folders = []
    for name, folder in repository.items():
        if isinstance(folder, ConfigError):
            log.error("model '%s' is not served: %s", name, folder)
            table.refuse(name, UNREAD_VERSION, str(folder))
        else:
            folders.append(folder)
    return folders
