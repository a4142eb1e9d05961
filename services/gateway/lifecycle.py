"""Loading and unloading a model in the whole mesh: at every replica of every stage, then at the gateway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from stagemesh.errors import StagemeshError
from stagemesh.repository import ModelFolder
from stagemesh.rpc.status import UNREACHABLE
from stagemesh.stage.hop import Hop
from stagemesh.stage.lifecycle import Lifecycle
from stagemesh.stage.route import PIPELINE

log = logging.getLogger(__name__)

Change = Callable[[Hop], Awaitable[None]]


class MeshLifecycle(Lifecycle):
    """Carries each change to the stages.

    They load a model while the gateway still sends its requests to the one before, which they keep for them; so a
    request meets one generation at all stages, and a load that fails anywhere leaves the mesh as it was.
    """

    async def load(self, name: str, keep: str = "") -> None:
        """See the base class; the gateway itself keeps nothing."""
        await super().load(name)

    async def prepare(self, folder: ModelFolder, generation: str) -> None:
        """Have the stages load the folder. Raises what a replica answered, or Unavailable for a stage without any."""
        stages = [stage for stage in PIPELINE if stage in folder.tables]
        await self._at_stages(stages, lambda replica: replica.load(folder.name, generation))

    async def settle(self, name: str, generation: str) -> None:
        """Have the stages close what they kept."""
        current = self.house.table.current(name)
        if current and current.generation != generation:
            await self._at_stages(PIPELINE, lambda replica: replica.unload(name, generation))

    async def withdraw(self, name: str) -> None:
        """Have the stages unload the model, one after the other, since requests of other gateways may be under way."""
        for stage in PIPELINE:
            await self._at_stages([stage], lambda replica: _unload_if_known(replica, name))

    async def _at_stages(self, stages: Sequence[str], change: Change) -> None:
        """Carry a change to all replicas, side by side; the first error once all have answered."""
        outcomes = await asyncio.gather(*(self._at_stage(stage, change) for stage in stages), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _at_stage(self, stage: str, change: Change) -> None:
        replicas = await self.house.hops[stage].replicas()
        try:
            outcomes = await asyncio.gather(*(_at_replica(replica, change) for replica in replicas))
        finally:
            for replica in replicas:
                await replica.close()
        errors = [error for error in outcomes if error is not None]
        away = [error for error in errors if error.reason == UNREACHABLE]
        for error in errors:
            log.warning("a replica of %s did not change: %s", stage, error)
        # A replica out of reach may be one that is not there yet; when it starts it reads the repository itself.
        if len(away) < len(outcomes):
            errors = [error for error in errors if error not in away]
        if errors:
            raise errors[0]


async def _at_replica(replica: Hop, change: Change) -> StagemeshError | None:
    try:
        if await replica.knows_routes():
            await change(replica)
        else:
            log.info("%s is no server of stagemesh: its models are its own", replica)
    except StagemeshError as error:
        return error
    return None


async def _unload_if_known(replica: Hop, name: str) -> None:
    try:
        await replica.unload(name)
    except StagemeshError as error:
        if getattr(error, "status", "") != "NOT_FOUND":
            raise
