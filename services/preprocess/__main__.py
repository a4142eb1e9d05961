"""The preprocess service: `python -m services.preprocess`."""

from __future__ import annotations

import sys

from services.preprocess.loader import loader
from services.preprocess.settings import PreprocessSettings
from stagemesh.stage.service import run_service

if __name__ == "__main__":
    sys.exit(run_service(PreprocessSettings, loader))
