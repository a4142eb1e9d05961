"""The infer service: `python -m services.infer`."""

from __future__ import annotations

import sys

from services.infer.loader import loader
from services.infer.settings import InferSettings
from stagemesh.stage.service import run_service

if __name__ == "__main__":
    sys.exit(run_service(InferSettings, loader))
