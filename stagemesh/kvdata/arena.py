"""A bounded amount of memory to read blocks into: mapped and touched once, lent in slots of one size."""

from __future__ import annotations

import mmap
import threading
from types import TracebackType

from stagemesh.errors import ConfigError, Overloaded

ALIGNMENT = 64


class Slot:
    """A part of an arena that its users share; it is free again when each of them has released it."""

    def __init__(self, arena: Arena, number: int, view: memoryview) -> None:
        self.view = view
        self._arena = arena
        self._number = number
        self._users = 1
        self._lock = threading.Lock()

    def share(self) -> Slot:
        """This slot for one user more. Raises ValueError once it is free."""
        with self._lock:
            if not self._users:
                raise ValueError("expected a slot in use, found a released one")
            self._users += 1
        return self

    def release(self) -> None:
        """One user less. Raises ValueError if it is free already."""
        with self._lock:
            if not self._users:
                raise ValueError("expected a slot in use, found a released one")
            self._users -= 1
            free = not self._users
        if free:
            self._arena.take_back(self._number)

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Arena:
    """`slots` buffers of at least `slot_bytes` bytes, aligned to 64. Safe to share between threads."""

    def __init__(self, slot_bytes: int, slots: int) -> None:
        if slot_bytes < 1 or slots < 1:
            raise ConfigError(f"arena: expected at least one slot of one byte, found {slots} of {slot_bytes}")
        self.slot_bytes = -(-slot_bytes // ALIGNMENT) * ALIGNMENT
        self._map = mmap.mmap(-1, self.slot_bytes * slots)
        self._view = memoryview(self._map)
        # The first touch of a page costs several times a later write, so it is paid here.
        for start in range(0, len(self._map), mmap.PAGESIZE):
            self._map[start] = 0
        self._free = list(range(slots))
        self._changed = threading.Condition()

    def take(self, timeout_s: float = 0.0) -> Slot:
        """A slot that nobody uses; Overloaded where none gets free within `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free, timeout_s):
                raise Overloaded(f"arena: all slots of {self.slot_bytes} bytes are in use", reason="KV_ARENA_FULL")
            number = self._free.pop()
        start = number * self.slot_bytes
        return Slot(self, number, self._view[start : start + self.slot_bytes])

    def take_back(self, number: int) -> None:
        """Slot `number` is free again; called by the slot."""
        with self._changed:
            self._free.append(number)
            self._changed.notify()

    @property
    def free(self) -> int:
        """How many slots nobody uses."""
        return len(self._free)
