"""How a stage makes its part of a model: what its service loads, behind a batcher."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stagemesh.errors import ConfigError
from stagemesh.oip.signature import Signature
from stagemesh.plugins import located
from stagemesh.repository import Batching, ModelFolder, split_batching
from stagemesh.stage.house import House
from stagemesh.stage.kind import StageKind
from stagemesh.stage.runner import NamesPlatform, Runner
from stagemesh.stage.stage_model import StageModel

log = logging.getLogger(__name__)

Load = Callable[[ModelFolder, Mapping[str, object], Batching], Runner]


@dataclass(frozen=True, slots=True)
class StageLoader:
    """How one stage makes a Runner of a model folder; `load` may block, it runs in a thread."""

    kind: StageKind
    platform: str
    instances: int
    load: Load

    def serves(self, folder: ModelFolder) -> bool:
        """Whether the folder has a table for this stage."""
        return self.kind.name in folder.tables

    async def make(self, house: House, folder: ModelFolder) -> StageModel:
        """Load the stage's part of the folder. Raises ConfigError."""
        started = time.monotonic()
        policy, table = split_batching(folder.table(self.kind.name), folder.where(self.kind.name))
        runner, signature = await asyncio.to_thread(self._loaded, folder, table, policy)
        log.info("model '%s' loaded in %.1f s", folder.name, time.monotonic() - started)
        return StageModel(
            folder,
            kind=self.kind,
            platform=runner.platform if isinstance(runner, NamesPlatform) else self.platform,
            runner=runner,
            signature=signature,
            policy=policy,
            instances=policy.instances or self.instances,
            router=house.router,
            metrics=house.metrics.model(folder.name),
            default_deadline_s=house.settings.default_deadline_s,
        )

    def _loaded(self, folder: ModelFolder, table: Mapping[str, object], policy: Batching) -> tuple[Runner, Signature]:
        try:
            runner = self.load(folder, table, policy)
            return runner, runner.signature()
        except ConfigError:
            raise
        except BaseException as error:  # an exit or a cancellation would be taken for the service's own
            log.exception("model '%s' can't be loaded", folder.name)
            what = located(error, folder.path.resolve())
            raise ConfigError(f"{folder.where(self.kind.name)}: loading raised {what}") from error
