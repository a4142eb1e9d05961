"""Resident memory over many requests: `python -m bench.soak [REQUESTS]`, 10,000 of them unless told.

One process decodes, computes and ranks photos with the code that the services run, single ones and, each
eighth request, eight. Memory that grows with the number of requests shows here; what the wire needs doesn't.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path

from bench.in_process import InProcess

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png")
REQUESTS = 10_000
SETTLED = 1_000
BATCHES = (1, 1, 1, 1, 1, 1, 1, 8)


def main() -> None:
    """Print resident memory before the first request, once it has settled, and at the end."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS
    photos = [(Path("examples/photos") / name).read_bytes() for name in PHOTOS]
    pipeline = InProcess(len(os.sched_getaffinity(0)))
    began = time.monotonic()
    for index in range(count):
        if index in (0, SETTLED):
            _show(index, began)
        batch = [photos[(index + row) % len(photos)] for row in range(BATCHES[index % len(BATCHES)])]
        pipeline.classify_batch(batch)
    _show(count, began)


def _show(requests: int, began: float) -> None:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    mib = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    print(f"after {requests:6d} requests, {time.monotonic() - began:6.1f} s: {mib:7.1f} MiB resident", flush=True)


if __name__ == "__main__":
    main()
