"""A stage from start to end: listen, fill the table, be ready, drain."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from stagemesh.oip.service import oip_handler
from stagemesh.rpc.context import Identity
from stagemesh.rpc.process import run_process, serve
from stagemesh.rpc.server import Server
from stagemesh.settings import ServiceSettings
from stagemesh.stage.hop import Hop
from stagemesh.stage.house import House
from stagemesh.stage.lifecycle import Lifecycle, ModelMaker
from stagemesh.stage.memory import give_back_when_quiet
from stagemesh.stage.model_table import ModelTable
from stagemesh.stage.route import PIPELINE, Router
from stagemesh.stage.servicer import StageServicer
from stagemesh.telemetry import Metrics

log = logging.getLogger(__name__)

S = TypeVar("S", bound=ServiceSettings)


def run_service(
    settings_class: type[S], maker_for: Callable[[S], ModelMaker], lifecycle_class: type[Lifecycle] = Lifecycle
) -> int:
    """Serve until SIGTERM or SIGINT, then end the process; returns an exit code where it could not serve.

    What `maker_for` gives makes the models of the repository, then the service is ready. For settings and errors see
    `run_process`.
    """

    async def main(identity: Identity, settings: S) -> None:
        maker = maker_for(settings)
        await _serve(identity, settings, lambda house: lifecycle_class(house, maker))

    return run_process(settings_class, main)


async def _serve(identity: Identity, settings: ServiceSettings, lifecycle_in: Callable[[House], Lifecycle]) -> None:
    metrics = Metrics(identity.stage)
    hops = _hops(settings, identity.stage)
    lifecycle = lifecycle_in(House(settings, ModelTable(), Router(hops), hops, metrics))
    servicer = StageServicer(identity, lifecycle, lambda: server.ready, routes=identity.stage in PIPELINE)
    server = Server(identity, settings, metrics, [oip_handler(servicer)])

    async def close() -> None:
        await lifecycle.close()
        for hop in hops.values():
            await hop.close()

    trimming = partial(give_back_when_quiet, partial(_bytes_received, metrics, identity.stage))
    await serve(server, partial(_fill, lifecycle, server), [trimming], close)


def _bytes_received(metrics: Metrics, stage: str) -> float | None:
    return metrics.registry.get_sample_value("stagemesh_bytes_total", {"stage": stage, "direction": "in"})


async def _fill(lifecycle: Lifecycle, server: Server) -> None:
    await lifecycle.fill()
    if missing := lifecycle.missing():
        log.error("not ready until these models are served: %s", ", ".join(missing))
    await lifecycle.ready.wait()
    server.set_ready(True)
    log.info("ready: %s", ", ".join(f"{e.name} {e.state.value}" for e in lifecycle.house.table))


def _hops(settings: ServiceSettings, own_stage: str) -> dict[str, Hop]:
    targets = {
        "preprocess": settings.preprocess_target,
        "infer": settings.infer_target,
        "postprocess": settings.postprocess_target,
    }
    return {
        stage: Hop(
            stage,
            target,
            max_message_bytes=settings.max_message_bytes,
            default_deadline_s=settings.default_deadline_s,
        )
        for stage, target in targets.items()
        if target and stage != own_stage
    }
