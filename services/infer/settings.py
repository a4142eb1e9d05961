"""Settings of the infer stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from stagemesh.settings import ServiceSettings, setting


@dataclass(frozen=True, kw_only=True)
class InferSettings(ServiceSettings):
    """What the infer service can be told."""

    stage: ClassVar[str] = "infer"

    port: int = setting(8021, "gRPC port; 0 picks a free one", minimum=0, maximum=65535)
    http_port: int = setting(8022, "port of /metrics, /livez and /readyz; 0 picks a free one", minimum=0, maximum=65535)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where networks run; auto takes CUDA if there")
    threads: int = setting(0, "threads of one CPU computation; 0 for one a core", minimum=0)
