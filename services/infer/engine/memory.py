"""Memory that is asked for once and used again: buffers on the host, pinned where the device is a GPU.

Buffers have power-of-two capacities, so that batches of all sizes share a few. A borrowed buffer goes back by hand;
an array that was lent goes back by itself, when the last view of it is gone: what a caller holds is never overwritten.
"""

from __future__ import annotations

import math
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

SMALLEST_BUFFER = 4096
IDLE_PER_CAPACITY = 8


@dataclass(frozen=True, slots=True)
class MemoryStatistics:
    """Buffers of one manager in use and waiting; the bytes of both; device bytes reserved and calls for them."""

    borrowed: int
    idle: int
    host_bytes: int
    device_bytes: int
    device_allocations: int


class Buffer:
    """A piece of host memory of fixed capacity, in bytes."""

    __slots__ = ("_bytes", "capacity")

    def __init__(self, storage: torch.Tensor) -> None:
        """`storage` is uint8 [capacity]."""
        self._bytes = storage
        self.capacity = storage.numel()

    def view(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """The start of the buffer as a tensor; valid until the buffer is given back."""
        return self._bytes[: math.prod(shape) * dtype.itemsize].view(dtype).view(tuple(shape))


class DeviceAllocator(ABC):
    """Where memory comes from for networks on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @abstractmethod
    def host(self, capacity: int) -> torch.Tensor:
        """Uint8 [capacity] on the host, in memory that copies fastest to and from the device."""

    def allocate(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """A tensor on the device, without values."""
        return torch.empty(tuple(shape), dtype=dtype, device=self.device)

    @abstractmethod
    def device_usage(self) -> tuple[int, int]:
        """The device bytes this process has reserved, and the calls it made to the driver for them."""


class CpuAllocator(DeviceAllocator):
    """The host is the device."""

    def host(self, capacity: int) -> torch.Tensor:
        """Plain memory."""
        return torch.empty(capacity, dtype=torch.uint8)

    def device_usage(self) -> tuple[int, int]:
        """Nothing: there is no device beside the host."""
        return 0, 0


class CudaAllocator(DeviceAllocator):
    """A CUDA device; torch's caching allocator keeps what it got from cudaMalloc."""

    def host(self, capacity: int) -> torch.Tensor:
        """Pinned memory."""
        return torch.empty(capacity, dtype=torch.uint8, pin_memory=True)

    def device_usage(self) -> tuple[int, int]:
        """Reserved bytes and cudaMalloc calls of the process."""
        statistics = torch.cuda.memory_stats(self.device)
        return int(statistics.get("reserved_bytes.all.current", 0)), int(statistics.get("num_device_alloc", 0))


class MemoryManager:
    """Owns the buffers that execution contexts borrow; threads may share it."""

    def __init__(self, allocator: DeviceAllocator) -> None:
        self.allocator = allocator
        # an array may be collected while its thread holds the lock, and its buffer comes back then and there
        self._lock = threading.RLock()
        self._idle: dict[int, list[Buffer]] = {}
        self._borrowed = 0
        self._host_bytes = 0

    def take(self, nbytes: int) -> Buffer:
        """A buffer of at least `nbytes`; `give_back` it."""
        capacity = max(SMALLEST_BUFFER, 1 << (nbytes - 1).bit_length()) if nbytes else SMALLEST_BUFFER
        with self._lock:
            self._borrowed += 1
            idle = self._idle.get(capacity)
            if idle:
                return idle.pop()
            self._host_bytes += capacity
        return Buffer(self.allocator.host(capacity))

    def give_back(self, buffer: Buffer) -> None:
        """Let the next one have `buffer`; one too many is freed."""
        with self._lock:
            self._borrowed -= 1
            idle = self._idle.setdefault(buffer.capacity, [])
            if len(idle) < IDLE_PER_CAPACITY:
                idle.append(buffer)
            else:
                self._host_bytes -= buffer.capacity

    @contextmanager
    def borrow(self, nbytes: int) -> Iterator[Buffer]:
        """A buffer for as long as the block runs."""
        buffer = self.take(nbytes)
        try:
            yield buffer
        finally:
            self.give_back(buffer)

    def lend(self, shape: Sequence[int], dtype: torch.dtype) -> tuple[torch.Tensor, npt.NDArray[np.generic]]:
        """A host tensor to fill, and the array over the same memory to hand out.

        The memory comes back when the array and all views of it are gone; the tensor must not outlive the fill.
        """
        buffer = self.take(math.prod(shape) * dtype.itemsize)
        tensor = buffer.view(shape, dtype)
        array: npt.NDArray[np.generic] = tensor.numpy()
        weakref.finalize(array, self.give_back, buffer).atexit = False
        return tensor, array

    def statistics(self) -> MemoryStatistics:
        """What is in use now."""
        device_bytes, device_allocations = self.allocator.device_usage()
        with self._lock:
            idle = sum(len(buffers) for buffers in self._idle.values())
            return MemoryStatistics(self._borrowed, idle, self._host_bytes, device_bytes, device_allocations)
