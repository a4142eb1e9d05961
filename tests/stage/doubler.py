"""A batcher to ask, over a computation that can be held and that refuses some rows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import numpy as np

from stagemesh.errors import InvalidInput
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays
from stagemesh.repository import Batching
from stagemesh.stage.batcher import Batcher
from stagemesh.stage.job_queue import Answer


class Doubler:
    """Doubles `x`; remembers each batch; can be held; refuses a row that holds -1."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.entered = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def __call__(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        self.entered.set()
        self.open.wait(10)
        x = inputs["x"]
        self.batches.append(x.ravel().tolist())
        if (x == -1).any():
            raise InvalidInput("row holds -1")
        return {"y": x * 2}


@asynccontextmanager
async def running(run: Doubler, policy: Batching, instances: int = 1, merge: bool = True) -> AsyncIterator[Batcher]:
    batcher = Batcher(run, policy, instances=instances, merge=merge)
    try:
        yield batcher
    finally:
        run.open.set()
        await batcher.close()


def ask(batcher: Batcher, *rows: float, priority: int = 5, timeout_s: float | None = None) -> Awaitable[Answer]:
    x = np.array(rows, np.float32).reshape(-1, 1)
    return asyncio.ensure_future(
        batcher.submit({"x": x}, len(rows), parameters={}, priority=priority, timeout_s=timeout_s)
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)
