"""Giving memory back to the system after a burst.

A burst of large messages leaves glibc's heaps full of holes, which it keeps: resident memory then depends
on how the last burst happened to be laid out, and a container's limit must hold the worst of them.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
from collections.abc import Callable
from pathlib import Path

LOOK_S = 1.0
GROWTH = 1.05
_STATM = Path("/proc/self/statm")


async def give_back_when_quiet(bytes_received: Callable[[], float | None]) -> None:
    """Whenever memory has grown and then no bytes were received for LOOK_S, trim the heaps; never returns.

    Where the system's allocator is not glibc, it returns at once.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None or not _STATM.exists():
        return
    floor = _resident()
    seen: float | None = None
    while True:
        await asyncio.sleep(LOOK_S)
        if _resident() <= GROWTH * floor:
            continue
        received = bytes_received()
        if received == seen:
            await asyncio.to_thread(trim, 0)  # tens of milliseconds, without the interpreter's lock
            floor = _resident()
        seen = received


def _resident() -> int:
    """Resident memory of this process in bytes."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()
