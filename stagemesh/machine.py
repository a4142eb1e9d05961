"""What a process should know of the machine it runs on."""

from __future__ import annotations

import os
import sys

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(256 << 20), "MALLOC_TRIM_THRESHOLD_": str(512 << 20)}
"""Environment for a process that moves tensors, read once, when it starts: tensors of some MiB otherwise cost a mmap,
page faults and a munmap each, which is more than the copy itself."""


def cores() -> int:
    """The cores this process may use, which in a container may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
