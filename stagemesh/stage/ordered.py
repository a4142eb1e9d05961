"""Answers of a stream, computed side by side and given in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


async def in_order(answer: Callable[[Q], Awaitable[A]], questions: AsyncIterator[Q], window: int) -> AsyncIterator[A]:
    """Yield `answer` of each question, in order; at most `window` are under way or unread at once.

    Leaving the iteration early cancels what is under way.
    """
    pending: asyncio.Queue[asyncio.Task[A] | None] = asyncio.Queue()
    places = asyncio.Semaphore(window)
    tasks: set[asyncio.Task[A]] = set()

    async def ask() -> None:
        try:
            async for question in questions:
                await places.acquire()
                task = asyncio.ensure_future(answer(question))
                tasks.add(task)
                pending.put_nowait(task)
        finally:
            pending.put_nowait(None)

    asking = asyncio.create_task(ask())
    try:
        while (task := await pending.get()) is not None:
            yield await task
            tasks.discard(task)
            places.release()
        await asking
    finally:
        asking.cancel()
        for task in tasks:
            task.cancel()
