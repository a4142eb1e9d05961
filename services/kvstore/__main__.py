"""The kvstore service: `python -m services.kvstore`."""

from __future__ import annotations

import sys

from services.kvstore.service import main
from services.kvstore.settings import KvStoreSettings
from stagemesh.rpc.process import run_process

if __name__ == "__main__":
    sys.exit(run_process(KvStoreSettings, main))
