"""The postprocess service: `python -m services.postprocess`."""

from __future__ import annotations

import sys

from services.postprocess.loader import loader
from services.postprocess.settings import PostprocessSettings
from stagemesh.stage.service import run_service

if __name__ == "__main__":
    sys.exit(run_service(PostprocessSettings, loader))
