"""What a running service shares with whoever makes and changes its models."""

from __future__ import annotations

from dataclasses import dataclass

from stagemesh.settings import ServiceSettings
from stagemesh.stage.hop import Hop
from stagemesh.stage.model_table import ModelTable
from stagemesh.stage.route import Router
from stagemesh.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class House:
    """The service's settings, its table of models, and its ways to the other stages."""

    settings: ServiceSettings
    table: ModelTable
    router: Router
    hops: dict[str, Hop]
    metrics: Metrics
