"""Settings of the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stagemesh.settings import ServiceSettings, setting


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(ServiceSettings):
    """What the gateway can be told; its targets default to the stages' ports on this machine."""

    stage: ClassVar[str] = "gateway"

    preprocess_target: str = setting("ipv4:127.0.0.1:8011", "gRPC target of the preprocess stage")
    infer_target: str = setting("ipv4:127.0.0.1:8021", "gRPC target of the infer stage")
    postprocess_target: str = setting("ipv4:127.0.0.1:8041", "gRPC target of the postprocess stage")
