"""Dynamic batching: requests that arrive together are computed together.

A batch goes as soon as an instance is free and the batch is full, or has a preferred size, or its
oldest request has waited `queue_delay_us`. Requests of different batch sizes merge. When a batch
fails it is halved until the request that poisons it stands alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from stagemesh.errors import DeadlineExceeded, StageFailed, StagemeshError, Unavailable
from stagemesh.logs import request_id
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays
from stagemesh.repository import Batching
from stagemesh.stage.job_queue import Answer, Job, JobQueue

Run = Callable[[Arrays, Mapping[str, Parameter]], Arrays]
OnBatch = Callable[[int, float], None]

_SMOOTHING = 0.2
_MIN_RETRY_S = 0.05

log = logging.getLogger(__name__)


class Batcher:
    """Queues the requests of one model and computes them in batches on `instances` threads."""

    def __init__(
        self,
        run: Run,
        policy: Batching,
        *,
        instances: int,
        merge: bool,
        on_batch: OnBatch = lambda rows, seconds: None,
    ) -> None:
        """`merge` False gives every request a batch of its own, with its parameters; `on_batch` hears rows and seconds.

        Where requests merge, none has parameters: its answer would depend on the company it had.
        """
        self._run = run
        self._policy = policy
        self._merge = merge
        self._max_rows = policy.max_batch if merge else 1
        self._on_batch = on_batch
        self._queue = JobQueue(policy.max_queue)
        self._arrival = asyncio.Event()
        self._collecting = asyncio.Lock()
        self._threads = ThreadPoolExecutor(instances, thread_name_prefix="compute")
        self._batch_seconds = 0.0
        self._closed = False
        self._workers = [asyncio.create_task(self._work()) for _ in range(instances)]

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    async def submit(
        self,
        inputs: Arrays,
        rows: int,
        *,
        parameters: Mapping[str, Parameter],
        priority: int,
        timeout_s: float | None = None,
    ) -> Answer:
        """Wait for the answer of one request of `rows` samples.

        Raises Overloaded when the queue is full, DeadlineExceeded when `timeout_s` passes before the
        request is computed, and what its computation raised. Cancelling the wait leaves the queue.
        """
        if self._closed:
            raise Unavailable("the model is being unloaded")
        loop = asyncio.get_running_loop()
        own = {} if self._merge else parameters
        job = Job(inputs, own, rows, priority, time.monotonic(), loop.create_future())
        self._queue.add(job, self._retry_after())
        if timeout_s is not None:
            job.expiry = loop.call_later(timeout_s, self._expire, job, timeout_s)
        self._arrival.set()
        try:
            return await job.future
        finally:
            self._leave(job)

    async def close(self) -> None:
        """Fail what still waits with Unavailable, and let the computing batches end."""
        self._closed = True
        _fail(self._take(list(self._queue)), Unavailable("the model is being unloaded"))
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _leave(self, job: Job) -> None:
        self._queue.discard(job)
        if job.expiry is not None:
            job.expiry.cancel()

    def _expire(self, job: Job, timeout_s: float) -> None:
        if self._queue.discard(job) and not job.future.done():
            job.future.set_exception(
                DeadlineExceeded(f"Request timeout expired: not computed within {timeout_s * 1e3:.0f} ms")
            )

    def _retry_after(self) -> float:
        batches_ahead = 1 + len(self._queue) / (self._max_rows * len(self._workers) if self._workers else 1)
        return max(_MIN_RETRY_S, self._batch_seconds * batches_ahead)

    async def _work(self) -> None:
        while True:
            async with self._collecting:
                jobs = await self._collect()
            try:
                await self._compute(jobs)
            except asyncio.CancelledError:
                _fail(jobs, Unavailable("the model is being unloaded"))
                raise
            except Exception as error:  # the next batch finds its worker, whatever came of this one
                log.exception("a batch could not be answered")
                _fail(jobs, StageFailed(f"the batch could not be answered: {type(error).__name__}: {error}"))

    async def _collect(self) -> list[Job]:
        """The next batch, taken out of the queue; waits for one."""
        while True:
            self._arrival.clear()
            jobs, full = self._queue.next_batch(self._max_rows)
            if jobs:
                chosen = jobs if full else self._preferred(jobs)
                wait_s = jobs[0].enqueued + self._policy.queue_delay_us / 1e6 - time.monotonic()
                if chosen or wait_s <= 0:
                    return self._take(chosen or jobs)
                await self._wait_for_arrival(wait_s)
            else:
                await self._arrival.wait()

    async def _wait_for_arrival(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrival.wait()
        except TimeoutError:
            return

    def _preferred(self, jobs: list[Job]) -> list[Job]:
        """The longest run of jobs whose rows are a preferred batch size; none where there is none."""
        rows = 0
        best = 0
        for index, job in enumerate(jobs, start=1):
            rows += job.rows
            if rows in self._policy.preferred_batch:
                best = index
        return jobs[:best]

    def _take(self, jobs: list[Job]) -> list[Job]:
        for job in jobs:
            self._leave(job)
        return jobs

    async def _compute(self, jobs: Sequence[Job]) -> None:
        jobs = [job for job in jobs if not job.future.done()]
        if not jobs:
            return
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        parts = await loop.run_in_executor(self._threads, jobs[0].context.run, _attempt, self._run, jobs)
        if isinstance(parts, StagemeshError):
            await self._isolate(jobs, parts)
            return
        seconds = time.monotonic() - started
        self._batch_seconds += _SMOOTHING * (seconds - self._batch_seconds)
        rows = sum(job.rows for job in jobs)
        self._on_batch(rows, seconds)
        for job, outputs in zip(jobs, parts, strict=True):
            if not job.future.done():
                job.future.set_result(Answer(outputs, rows, started - job.enqueued, seconds))

    async def _isolate(self, jobs: Sequence[Job], error: StagemeshError) -> None:
        if len(jobs) == 1:
            _fail(jobs, error)
            return
        half = len(jobs) // 2
        await self._compute(jobs[:half])
        await self._compute(jobs[half:])


def _fail(jobs: Sequence[Job], error: StagemeshError) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)


def _attempt(run: Run, jobs: Sequence[Job]) -> list[Arrays] | StagemeshError:
    """Compute jobs as one batch, in a worker thread: one dict of arrays for each job, or what they fail with.

    Nothing is raised: asyncio would take an exit or a cancellation for its own, and a StopIteration for none.
    """
    try:
        return _run_merged(run, jobs)
    except StagemeshError as error:
        return error
    except BaseException as error:
        return StageFailed(f"computing raised {type(error).__name__}: {error}")


def _run_merged(run: Run, jobs: Sequence[Job]) -> list[Arrays]:
    if len(jobs) == 1:
        outputs = run(jobs[0].inputs, jobs[0].parameters)
        _check_rows(outputs, jobs[0].rows)
        return [outputs]
    if log.isEnabledFor(logging.DEBUG):
        log.debug("computed together with %s", ", ".join(job.context.get(request_id, "") for job in jobs[1:]))
    merged = {name: np.concatenate([job.inputs[name] for job in jobs]) for name in jobs[0].inputs}
    outputs = run(merged, jobs[0].parameters)
    ends = np.cumsum([job.rows for job in jobs])
    _check_rows(outputs, int(ends[-1]))
    return [
        {name: array[end - job.rows : end] for name, array in outputs.items()}
        for job, end in zip(jobs, ends, strict=True)
    ]


def _check_rows(outputs: Arrays, rows: int) -> None:
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != rows:
            raise StageFailed(f"output '{name}' has shape {list(array.shape)}, expected {rows} rows")
