"""Settings of the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stagemesh.errors import ConfigError
from stagemesh.settings import ServiceSettings, setting
from stagemesh.stage.route import PIPELINE


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(ServiceSettings):
    """What the gateway can be told; its targets default to the stages' ports on this machine."""

    stage: ClassVar[str] = "gateway"

    preprocess_target: str = setting("ipv4:127.0.0.1:8011", "gRPC target of the preprocess stage")
    infer_target: str = setting("ipv4:127.0.0.1:8021", "gRPC target of the infer stage")
    postprocess_target: str = setting("ipv4:127.0.0.1:8041", "gRPC target of the postprocess stage")

    def __post_init__(self) -> None:
        for stage in PIPELINE:
            if not getattr(self, f"{stage}_target"):
                raise ConfigError(f"--{stage}-target: expected the gRPC target of the {stage} stage, found ''")
