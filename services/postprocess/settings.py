"""Settings of the postprocess stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stagemesh.settings import ServiceSettings, setting


@dataclass(frozen=True, kw_only=True)
class PostprocessSettings(ServiceSettings):
    """What the postprocess service can be told."""

    stage: ClassVar[str] = "postprocess"

    port: int = setting(8041, "gRPC port; 0 picks a free one", minimum=0, maximum=65535)
    http_port: int = setting(8042, "port of /metrics, /livez and /readyz; 0 picks a free one", minimum=0, maximum=65535)
