"""Settings of the preprocess stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stagemesh.settings import ServiceSettings, setting


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings(ServiceSettings):
    """What the preprocess service can be told."""

    stage: ClassVar[str] = "preprocess"

    port: int = setting(8011, "gRPC port; 0 picks a free one", minimum=0, maximum=65535)
    http_port: int = setting(8012, "port of /metrics, /livez and /readyz; 0 picks a free one", minimum=0, maximum=65535)
