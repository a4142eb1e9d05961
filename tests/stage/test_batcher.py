"""The dynamic batcher, driven with real threads and arrays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagemesh.errors import DeadlineExceeded, InvalidInput, Overloaded, StageFailed, Unavailable
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays
from stagemesh.repository import Batching
from stagemesh.stage.batcher import Batcher
from stagemesh.stage.job_queue import Answer
from tests.stage.doubler import Doubler, ask, running, until


async def hold(run: Doubler, batcher: Batcher) -> Awaitable[Answer]:
    """Occupy the only instance with a request, so that what follows waits in the queue."""
    run.open.clear()
    first = ask(batcher, 0)
    await until(run.entered.is_set)
    return first


async def test_requests_of_different_batch_sizes_merge_and_get_their_own_rows() -> None:
    run = Doubler()
    async with running(run, Batching(max_batch=8)) as batcher:
        first = await hold(run, batcher)
        waiting = [ask(batcher, 1), ask(batcher, 2, 3, 4), ask(batcher, 5, 6)]
        await until(lambda: len(batcher) == 3)
        run.open.set()
        answers = await asyncio.gather(first, *waiting)
    assert run.batches == [[0], [1, 2, 3, 4, 5, 6]]
    assert [a.outputs["y"].ravel().tolist() for a in answers] == [[0], [2], [4, 6, 8], [10, 12]]
    assert answers[1].batch_size == 6


async def test_a_batch_never_exceeds_its_maximum() -> None:
    run = Doubler()
    async with running(run, Batching(max_batch=4)) as batcher:
        first = await hold(run, batcher)
        waiting = [ask(batcher, i, i) for i in range(1, 6)]
        await until(lambda: len(batcher) == 5)
        run.open.set()
        await asyncio.gather(first, *waiting)
    assert [len(batch) for batch in run.batches] == [1, 4, 4, 2]


async def test_other_shapes_wait_for_a_batch_of_their_own() -> None:
    run = Doubler()
    async with running(run, Batching(max_batch=8)) as batcher:
        first = await hold(run, batcher)
        wide = asyncio.ensure_future(batcher.submit({"x": np.ones((1, 3), np.float32)}, 1, parameters={}, priority=5))
        narrow = [ask(batcher, 1), ask(batcher, 2)]
        await until(lambda: len(batcher) == 3)
        run.open.set()
        await asyncio.gather(first, wide, *narrow)
    assert run.batches == [[0], [1, 1, 1], [1, 2]]


async def test_queue_delay_waits_for_company_and_a_full_batch_does_not() -> None:
    run = Doubler()
    async with running(run, Batching(max_batch=2, queue_delay_us=10_000_000)) as batcher:
        await asyncio.wait_for(asyncio.gather(ask(batcher, 1), ask(batcher, 2)), 8)
    assert run.batches == [[1, 2]]
    async with running(run, Batching(max_batch=2, queue_delay_us=300_000)) as batcher:
        lonely = await ask(batcher, 3)
    assert lonely.queue_s >= 0.29


async def test_a_preferred_size_goes_at_once() -> None:
    run = Doubler()
    policy = Batching(max_batch=8, queue_delay_us=10_000_000, preferred_batch=(2,))
    async with running(run, policy) as batcher:
        await asyncio.wait_for(asyncio.gather(ask(batcher, 1), ask(batcher, 2)), 8)
    assert run.batches == [[1, 2]]


async def test_a_poisoned_request_fails_alone() -> None:
    run = Doubler()
    async with running(run, Batching(max_batch=8)) as batcher:
        first = await hold(run, batcher)
        waiting = [ask(batcher, 1), ask(batcher, 2), ask(batcher, -1), ask(batcher, 4), ask(batcher, 5)]
        await until(lambda: len(batcher) == 5)
        run.open.set()
        results = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert isinstance(results[3], InvalidInput)
    good = [r for r in results if isinstance(r, Answer)]
    assert [r.outputs["y"].item() for r in good] == [0, 2, 4, 8, 10]


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    run = Doubler()
    async with running(run, Batching(max_batch=1, max_queue=2)) as batcher:
        first = await hold(run, batcher)
        waiting = [ask(batcher, 1), ask(batcher, 2)]
        await until(lambda: len(batcher) == 2)
        with pytest.raises(Overloaded, match="Exceeds maximum queue size") as refused:
            await ask(batcher, 3)
        assert refused.value.retry_after_s > 0
        run.open.set()
        await asyncio.gather(first, *waiting)
    assert run.batches == [[0], [1], [2]]


async def test_priority_goes_first() -> None:
    run = Doubler()
    async with running(run, Batching(max_batch=1)) as batcher:
        first = await hold(run, batcher)
        waiting = [ask(batcher, 1), ask(batcher, 2, priority=9), ask(batcher, 3, priority=1)]
        await until(lambda: len(batcher) == 3)
        run.open.set()
        await asyncio.gather(first, *waiting)
    assert run.batches == [[0], [3], [1], [2]]


async def test_a_request_whose_time_is_up_is_never_computed() -> None:
    run = Doubler()
    async with running(run, Batching(max_batch=1)) as batcher:
        first = await hold(run, batcher)
        with pytest.raises(DeadlineExceeded, match="Request timeout expired"):
            await ask(batcher, 7, timeout_s=0.02)
        run.open.set()
        await first
    assert run.batches == [[0]]


async def test_a_cancelled_request_is_never_computed_and_gives_its_place_back() -> None:
    run = Doubler()
    async with running(run, Batching(max_batch=1, max_queue=1)) as batcher:
        first = await hold(run, batcher)
        gone = asyncio.ensure_future(ask(batcher, 7))
        await until(lambda: len(batcher) == 1)
        gone.cancel()
        await until(lambda: len(batcher) == 0)
        stays = ask(batcher, 8)
        run.open.set()
        await asyncio.gather(first, stays)
    assert run.batches == [[0], [8]]


async def test_without_merging_each_request_is_a_batch_with_its_own_parameters() -> None:
    seen: list[Mapping[str, Parameter]] = []

    def run(inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        seen.append(parameters)
        return inputs

    batcher = Batcher(run, Batching(max_batch=8), instances=1, merge=False)
    x = np.zeros((3, 1), np.float32)
    await asyncio.gather(*(batcher.submit({"x": x}, 3, parameters={"k": k}, priority=5) for k in (1, 2)))
    await batcher.close()
    assert seen == [{"k": 1}, {"k": 2}]


async def test_outputs_with_a_wrong_row_count_are_an_error_of_the_stage() -> None:
    batcher = Batcher(lambda i, p: {"y": np.zeros((5, 1))}, Batching(max_batch=8), instances=1, merge=True)
    with pytest.raises(StageFailed, match=r"output 'y' has shape \[5, 1\], expected 2 rows"):
        await ask(batcher, 1, 2)
    await batcher.close()


async def test_closing_fails_what_waits() -> None:
    run = Doubler()
    async with running(run, Batching(max_batch=1)) as batcher:
        await hold(run, batcher)
        waits = ask(batcher, 1)
        await until(lambda: len(batcher) == 1)
        run.open.set()
        await batcher.close()
        with pytest.raises(Unavailable):
            await waits


async def test_where_requests_merge_none_has_parameters() -> None:
    seen: list[Mapping[str, Parameter]] = []

    def run(inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        seen.append(parameters)
        return inputs

    batcher = Batcher(run, Batching(max_batch=8), instances=1, merge=True)
    x = np.zeros((1, 1), np.float32)
    await batcher.submit({"x": x}, 1, parameters={"k": 1}, priority=5)
    await asyncio.gather(*(batcher.submit({"x": x}, 1, parameters={"k": k}, priority=5) for k in (1, 2)))
    await batcher.close()
    assert not any(seen)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 10), st.booleans(), st.booleans()), max_size=24),
    st.integers(5, 9),
    st.sampled_from([0, 500]),
    st.integers(1, 3),
)
def test_every_request_gets_its_own_answer_whatever_comes_together(
    requests: list[tuple[int, int, bool, bool]], max_batch: int, delay_us: int, instances: int
) -> None:
    """Random sizes, priorities, poison and cancellations: right rows, alone failing, nothing left."""

    async def scenario() -> None:
        run = Doubler()
        async with running(run, Batching(max_batch=max_batch, queue_delay_us=delay_us), instances) as batcher:
            tasks = []
            for index, (rows, priority, poisoned, cancelled) in enumerate(requests):
                values = [float(index * 10 + r) for r in range(rows)]
                task = ask(batcher, *([*values[:-1], -1.0] if poisoned else values), priority=priority)
                tasks.append((task, values, poisoned, cancelled))
                if cancelled:
                    await asyncio.sleep(0)
                    task.cancel()  # type: ignore[attr-defined]
            for task, values, poisoned, cancelled in tasks:
                result = (await asyncio.gather(task, return_exceptions=True))[0]
                if cancelled:
                    assert isinstance(result, asyncio.CancelledError)
                elif poisoned:
                    assert isinstance(result, InvalidInput)
                else:
                    assert isinstance(result, Answer)
                    assert result.outputs["y"].ravel().tolist() == [2 * v for v in values]
            assert len(batcher) == 0
        assert all(len(batch) <= max_batch for batch in run.batches)

    asyncio.run(scenario())
