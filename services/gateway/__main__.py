"""The gateway service: `python -m services.gateway`."""

from __future__ import annotations

import sys

from services.gateway.lifecycle import MeshLifecycle
from services.gateway.pipeline import PipelineMaker
from services.gateway.settings import GatewaySettings
from stagemesh.stage.service import run_service

if __name__ == "__main__":
    sys.exit(run_service(GatewaySettings, lambda settings: PipelineMaker(), MeshLifecycle))
