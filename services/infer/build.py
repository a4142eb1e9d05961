"""Building engines ahead: `python -m services.infer.build --model-names classify,pose`.

Takes the settings of the infer service. Compiles, compares and times all that can run a network here, and leaves the
engine in the cache, where a service on this machine finds it.
"""

from __future__ import annotations

import logging
import os
import sys
import time

from services.infer.device import cap_threads, select_device
from services.infer.network import BuildOptions, load_network
from services.infer.settings import InferSettings
from stagemesh.errors import ConfigError
from stagemesh.repository import ModelFolder, read_repository, split_batching
from stagemesh.settings import load_settings
from stagemesh.stage.kind import INFER

EXIT_FAILED = 1
EXIT_CONFIG = 2


def main() -> int:
    """Build for each model; 0 when all could be, 1 when some failed, 2 for wrong settings, with sentences on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        settings = load_settings(InferSettings, sys.argv[1:], os.environ)
        cap_threads(settings.threads)
        select_device(settings.device)
        folders = read_repository(settings.models, settings.model_names)
    except ConfigError as error:
        print(f"build: {error}", file=sys.stderr)
        return EXIT_CONFIG
    results = [_built(name, folder, settings) for name, folder in folders.items()]
    return 0 if all(results) else EXIT_FAILED


def _built(name: str, folder: ModelFolder | ConfigError, settings: InferSettings) -> bool:
    """Whether the engine of one model is there now."""
    began = time.monotonic()
    try:
        if isinstance(folder, ConfigError):
            raise folder
        if INFER.name not in folder.tables:
            return True
        policy, table = split_batching(folder.table(INFER.name), folder.where(INFER.name))
        options = BuildOptions(max_batch=policy.max_batch, compiles=True, report=_report)
        network = load_network(folder, table, select_device(settings.device), settings.cache, options)
    except ConfigError as error:
        print(f"model '{name}': no engine: {error}", file=sys.stderr, flush=True)
        return False
    print(f"model '{name}': built for {network.engine.backend} in {time.monotonic() - began:.1f} s", flush=True)
    return True


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
