"""A service from start to end: listen, fill the table, be ready, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn, TypeVar

from stagemesh.errors import ConfigError
from stagemesh.logs import configure_logging
from stagemesh.oip.service import oip_handler
from stagemesh.rpc.context import Identity
from stagemesh.rpc.server import Server
from stagemesh.settings import ServiceSettings, load_settings
from stagemesh.stage.hop import Hop
from stagemesh.stage.house import House
from stagemesh.stage.lifecycle import Lifecycle, ModelMaker
from stagemesh.stage.memory import give_back_when_quiet
from stagemesh.stage.model_table import ModelTable
from stagemesh.stage.route import PIPELINE, Router
from stagemesh.stage.servicer import StageServicer
from stagemesh.telemetry import Metrics

log = logging.getLogger(__name__)

EXIT_CONFIG = 2


S = TypeVar("S", bound=ServiceSettings)


def run_service(
    settings_class: type[S], maker_for: Callable[[S], ModelMaker], lifecycle_class: type[Lifecycle] = Lifecycle
) -> int:
    """Serve until SIGTERM or SIGINT, then end the process; returns an exit code where it could not serve.

    Settings come from the environment and the command line. What `maker_for` gives makes the models of the
    repository, then the service is ready. A ConfigError, of a port in use for one, is one sentence on stderr and
    exit code 2.
    """
    try:
        settings = load_settings(settings_class, sys.argv[1:], os.environ)
        identity = Identity.of(settings)
        configure_logging(settings.log_level, settings.log_format, identity.stage, identity.replica)
        maker = maker_for(settings)
        asyncio.run(_serve(identity, settings, lambda house: lifecycle_class(house, maker)))
    except ConfigError as error:
        print(f"{settings_class.stage}: {error}", file=sys.stderr)
    return EXIT_CONFIG


async def _serve(identity: Identity, settings: ServiceSettings, lifecycle_in: Callable[[House], Lifecycle]) -> NoReturn:
    metrics = Metrics(identity.stage)
    hops = _hops(settings, identity.stage)
    lifecycle = lifecycle_in(House(settings, ModelTable(), Router(hops), hops, metrics))
    servicer = StageServicer(identity, lifecycle, routes=identity.stage in PIPELINE)
    server = Server(identity, settings, metrics, [oip_handler(servicer)])
    await server.start()
    filling = asyncio.create_task(_fill(lifecycle, server))
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
        await lifecycle.close()
        for hop in hops.values():
            await hop.close()
    _leave()


def _leave() -> NoReturn:
    """End the process without joining its threads: a plug-in that never returns would hold up the exit for good."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _bytes_received(metrics: Metrics, stage: str) -> float | None:
    return metrics.registry.get_sample_value("stagemesh_bytes_total", {"stage": stage, "direction": "in"})


async def _fill(lifecycle: Lifecycle, server: Server) -> None:
    await lifecycle.fill()
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
