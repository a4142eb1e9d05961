"""The bounded queue in front of a model: by priority, then by arrival; leaving early is O(1)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from itertools import count

from stagemesh.errors import Overloaded
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays

_serial = count()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a job got: its arrays, and where its time went, in seconds."""

    outputs: Arrays
    batch_size: int
    queue_s: float
    compute_s: float


@dataclass(slots=True, eq=False)
class Job:
    """One request that waits: its arrays with `rows` samples, the future of its answer, the context it came in."""

    inputs: Arrays
    parameters: Mapping[str, Parameter]
    rows: int
    priority: int
    enqueued: float
    future: asyncio.Future[Answer]
    serial: int = field(default_factory=lambda: next(_serial))
    expiry: asyncio.TimerHandle | None = None
    context: Context = field(default_factory=copy_context)

    def shapes(self) -> tuple[tuple[str, object, tuple[int, ...]], ...]:
        """What two jobs must share to be computed in one batch: names, dtypes, sample shapes."""
        return tuple((name, a.dtype, a.shape[1:]) for name, a in sorted(self.inputs.items()))


class JobQueue:
    """At most `capacity` waiting jobs; a smaller priority number is served first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._levels: dict[int, dict[int, Job]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Job]:
        for priority in sorted(self._levels):
            yield from self._levels[priority].values()

    def add(self, job: Job, retry_after_s: float) -> None:
        """Append a job. Raises Overloaded, suggesting `retry_after_s`, when the queue is full."""
        if self._length >= self._capacity:
            raise Overloaded(
                f"Exceeds maximum queue size: {self._length} requests wait, max_queue is {self._capacity}",
                retry_after_s=retry_after_s,
            )
        self._levels.setdefault(job.priority, {})[job.serial] = job
        self._length += 1

    def discard(self, job: Job) -> bool:
        """Take a job out if it still waits; says whether it did."""
        level = self._levels.get(job.priority, {})
        if level.pop(job.serial, None) is None:
            return False
        self._length -= 1
        if not level:
            del self._levels[job.priority]
        return True

    def next_batch(self, max_rows: int) -> tuple[list[Job], bool]:
        """The jobs the head would be computed with, in order, and whether that batch is full.

        Jobs of other shapes are passed over, they wait for a batch of their own.
        """
        jobs: list[Job] = []
        rows = 0
        for job in self:
            if jobs and job.shapes() != jobs[0].shapes():
                continue
            if rows + job.rows > max_rows and jobs:
                return jobs, True
            jobs.append(job)
            rows += job.rows
        return jobs, rows >= max_rows
