"""What becomes of a batch that is broken off, and of the log lines it writes."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping

import pytest

from stagemesh.errors import InvalidInput, StageFailed, Unavailable
from stagemesh.logs import request_id
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays
from stagemesh.repository import Batching
from stagemesh.stage.batcher import Batcher
from stagemesh.stage.job_queue import Answer
from tests.stage.doubler import Doubler, ask, until


async def test_closing_while_a_failed_batch_is_halved_fails_every_half() -> None:
    halved, go_on = threading.Event(), threading.Event()

    def run(inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        if len(inputs["x"]) == 4:
            raise InvalidInput("one of them is wrong")
        halved.set()
        go_on.wait(10)
        return inputs

    batcher = Batcher(run, Batching(max_batch=4, queue_delay_us=5_000_000), instances=1, merge=True)
    waiting = [ask(batcher, number) for number in range(4)]
    await until(halved.is_set)
    await batcher.close()
    results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    go_on.set()
    assert [type(result) for result in results] == [Unavailable] * 4


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), StopIteration(), KeyboardInterrupt()])
@pytest.mark.parametrize("merge", [True, False])
async def test_whatever_is_raised_fails_its_request_and_leaves_the_batcher(error: BaseException, merge: bool) -> None:
    def run(inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        if inputs["x"][0] == -1:
            raise error
        return inputs

    batcher = Batcher(run, Batching(max_batch=8), instances=1, merge=merge)
    for _ in range(2):
        with pytest.raises(StageFailed, match=type(error).__name__):
            await asyncio.wait_for(ask(batcher, -1), 5)
    assert (await asyncio.wait_for(ask(batcher, 1), 5)).outputs["x"].item() == 1
    await batcher.close()


async def test_a_failure_beside_the_computing_fails_the_batch_and_leaves_the_batcher() -> None:
    def count(rows: int, seconds: float) -> None:
        if rows == 2:
            raise ZeroDivisionError("no such bucket")

    batcher = Batcher(Doubler(), Batching(max_batch=8), instances=1, merge=True, on_batch=count)
    with pytest.raises(StageFailed, match="no such bucket"):
        await asyncio.wait_for(ask(batcher, 1, 2), 5)
    assert (await asyncio.wait_for(ask(batcher, 1), 5)).outputs["y"].item() == 2
    await batcher.close()


async def test_a_batch_runs_in_the_context_of_its_first_request(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def run(inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        seen.append(request_id.get())
        return inputs

    async def ask_as(name: str) -> Answer:
        request_id.set(name)
        return await ask(batcher, 1)

    batcher = Batcher(run, Batching(max_batch=2, queue_delay_us=100_000), instances=1, merge=True)
    await ask_as("alone")
    with caplog.at_level(logging.DEBUG, "stagemesh.stage.batcher"):
        await asyncio.gather(*(asyncio.create_task(ask_as(name)) for name in ("first", "second")))
    await batcher.close()
    assert seen == ["alone", "first"]
    assert "computed together with second" in caplog.text
