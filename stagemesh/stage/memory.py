"""Giving memory back to the system after a burst.

A failed call is a reference cycle (exception, frames, call) that holds its messages until the next full
garbage collection, and glibc keeps a heap that is full of holes: without help, resident memory depends on
how the last burst happened to end.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path

LOOK_S = 1.0
GROWTH = 1.05
_STATM = Path("/proc/self/statm")


async def give_back_when_quiet(bytes_received: Callable[[], float | None]) -> None:
    """Whenever memory has grown and then no bytes were received for LOOK_S, collect and trim; never returns.

    Where the system's allocator is not glibc, it returns at once.
    """
    trim = _trim_function()
    if trim is None:
        return
    floor = _resident()
    seen: float | None = None
    while True:
        await asyncio.sleep(LOOK_S)
        grown = _resident()
        if grown <= GROWTH * floor:
            continue
        received = bytes_received()
        if received == seen:
            gc.collect()
            await asyncio.to_thread(trim, 0)  # tens of milliseconds, without the interpreter's lock
            left = _resident()
            # What gained much is done once more: requests may still have been computed meanwhile.
            floor = left if grown <= GROWTH * left else floor
        seen = received


def _trim_function() -> Callable[[int], object] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if _STATM.exists() else None


def _resident() -> int:
    """Resident memory of this process in bytes."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()
