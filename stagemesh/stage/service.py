"""A service from start to end: listen, fill the table, be ready, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from stagemesh.errors import ConfigError
from stagemesh.logs import configure_logging
from stagemesh.oip.service import oip_handler
from stagemesh.rpc.context import Identity
from stagemesh.rpc.server import Server
from stagemesh.settings import ServiceSettings, load_settings
from stagemesh.stage.hop import Hop
from stagemesh.stage.memory import give_back_when_quiet
from stagemesh.stage.model_table import ModelTable
from stagemesh.stage.route import PIPELINE, Router
from stagemesh.stage.servicer import StageServicer
from stagemesh.telemetry import Metrics

log = logging.getLogger(__name__)

EXIT_CONFIG = 2


@dataclass(frozen=True, slots=True)
class House:
    """What a running service hands to whoever fills its table of models."""

    settings: ServiceSettings
    table: ModelTable
    router: Router
    hops: dict[str, Hop]
    metrics: Metrics


Fill = Callable[[House], Awaitable[None]]
S = TypeVar("S", bound=ServiceSettings)


def run_service(settings_class: type[S], fill_for: Callable[[S], Fill]) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    Settings come from the environment and the command line. What `fill_for` gives loads the models,
    then the service is ready. A ConfigError, of a port in use for one, is one sentence on stderr and
    exit code 2.
    """
    try:
        settings = load_settings(settings_class, sys.argv[1:], os.environ)
        identity = Identity.of(settings)
        configure_logging(settings.log_level, settings.log_format, identity.stage, identity.replica)
        asyncio.run(_serve(identity, settings, fill_for(settings)))
    except ConfigError as error:
        print(f"{settings_class.stage}: {error}", file=sys.stderr)
        return EXIT_CONFIG
    return 0


async def _serve(identity: Identity, settings: ServiceSettings, fill: Fill) -> None:
    metrics = Metrics(identity.stage)
    table = ModelTable()
    hops = _hops(settings, identity.stage)
    servicer = StageServicer(identity, table, routes=identity.stage in PIPELINE)
    server = Server(identity, settings, metrics, [oip_handler(servicer)])
    await server.start()
    filling = asyncio.create_task(_fill(fill, House(settings, table, Router(hops), hops, metrics), server))
    serving = asyncio.create_task(server.serve_until_signal())
    trimming = asyncio.create_task(give_back_when_quiet(partial(_bytes_received, metrics, identity.stage)))
    try:
        done, _ = await asyncio.wait([filling, serving], return_when=asyncio.FIRST_COMPLETED)
        if filling in done:
            filling.result()
            await serving
    finally:
        filling.cancel()
        serving.cancel()
        trimming.cancel()
        await table.close()
        for hop in hops.values():
            await hop.close()


def _bytes_received(metrics: Metrics, stage: str) -> float | None:
    return metrics.registry.get_sample_value("stagemesh_bytes_total", {"stage": stage, "direction": "in"})


async def _fill(fill: Fill, house: House, server: Server) -> None:
    await fill(house)
    server.set_ready(True)
    log.info("ready: %s", ", ".join(f"{e.name} {e.state.value}" for e in house.table))


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
