"""Contexts and their memory: buffers come back, lent outputs stay, threads don't meet."""

from __future__ import annotations

import gc
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from services.infer.engine.memory import CpuAllocator, MemoryManager
from stagemesh.errors import InvalidInput
from tests.engine_build.tiny import CPU, MAX_BATCH, Tiny, check, eager_engine, expected, images


class Raises(nn.Module):
    """Fails for a batch of 3."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if len(image) == 3:
            raise ValueError("three!")
        return (image.float(),)


class Echo(nn.Module):
    """Gives its input itself."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (image,)


class NotANumber(nn.Module):
    """One NaN for each sample."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (image.float().mean(dim=(1, 2, 3)) * float("nan"),)


def test_outputs_are_those_of_the_module_at_every_batch_size() -> None:
    context = eager_engine(Tiny()).create_context()
    for batch in range(1, MAX_BATCH + 1):
        check(context, batch)


@pytest.mark.parametrize("shape", [(0, 16, 16, 3), (9, 16, 16, 3), (1, 16, 17, 3), (1, 16, 16), (1, 3, 16, 16)])
def test_a_shape_outside_the_profile_is_refused(shape: tuple[int, ...]) -> None:
    context = eager_engine(Tiny()).create_context()
    text = r"input 'image': expected shapes from \[1, 16, 16, 3\] to \[8, 16, 16, 3\].*got \[" + str(shape[0])
    with pytest.raises(InvalidInput, match=text):
        context.enqueue([np.zeros(shape, np.uint8)])


def test_read_only_input_is_taken_without_a_warning() -> None:
    engine = eager_engine(Tiny())
    image = images(2)
    image.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs = engine.run([image])
    assert all(output.flags.c_contiguous and output.dtype == np.float32 for output in outputs)


def test_buffers_come_back_after_an_error() -> None:
    engine = eager_engine(Raises())
    engine.run([images(1)])
    gc.collect()
    before = engine.memory.statistics()
    for _ in range(5):
        with pytest.raises(ValueError, match="three!"):
            engine.run([images(3)])
    after = engine.memory.statistics()
    assert after.borrowed == before.borrowed == 0
    assert after.host_bytes == before.host_bytes


def test_a_held_output_is_never_overwritten() -> None:
    engine = eager_engine(Echo())
    held = [engine.run([images(4, seed)])[0][1:] for seed in range(20)]
    for seed, view in enumerate(held):
        np.testing.assert_array_equal(view, images(4, seed)[1:])
    assert engine.memory.statistics().borrowed == 20
    del view
    held.clear()
    assert engine.memory.statistics().borrowed == 0


def test_a_memoryview_keeps_its_output() -> None:
    engine = eager_engine(Echo())
    view = memoryview(engine.run([images(2, 1)])[0]).cast("B")
    engine.run([images(2, 2)])
    assert bytes(view) == images(2, 1).tobytes()


def test_nan_passes_through() -> None:
    (output,) = eager_engine(NotANumber()).run([images(3)])
    assert np.isnan(output).all()


def test_two_contexts_run_at_once() -> None:
    engine = eager_engine(Tiny())
    contexts = [engine.create_context() for _ in range(2)]

    def work(index: int) -> None:
        for seed in range(50):
            check(contexts[index], 1 + (seed + index) % MAX_BATCH, seed + 1000 * index)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert engine.memory.statistics().borrowed == 0


def test_contexts_of_an_engine_are_used_again() -> None:
    engine = eager_engine(Tiny())
    with engine.context() as first:
        pass
    with engine.context() as second, engine.context() as third:
        assert second is first
        assert third is not first


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_resident_memory_is_flat_over_thousands_of_runs() -> None:
    engine = eager_engine(Tiny())
    process = psutil.Process()
    batches = [images(batch) for batch in range(1, MAX_BATCH + 1)]
    wanted = expected(batches[-1])[0]

    def run(count: int) -> None:
        for index in range(count):
            outputs = engine.run([batches[index % MAX_BATCH]])
        np.testing.assert_allclose(outputs[0], wanted, rtol=1e-4, atol=1e-5)

    run(800)
    before, host_bytes = process.memory_info().rss, engine.memory.statistics().host_bytes
    run(4000)
    assert engine.memory.statistics().host_bytes == host_bytes
    assert process.memory_info().rss - before < 2 << 20


def test_a_manager_frees_what_is_idle_beyond_its_limit() -> None:
    memory = MemoryManager(CpuAllocator(CPU))
    buffers = [memory.take(100_000) for _ in range(20)]
    assert memory.statistics().host_bytes == 20 * 131_072
    for buffer in buffers:
        memory.give_back(buffer)
    found = memory.statistics()
    assert (found.borrowed, found.idle, found.host_bytes) == (0, 8, 8 * 131_072)


def test_a_buffer_holds_what_it_was_asked_for() -> None:
    memory = MemoryManager(CpuAllocator(CPU))
    for nbytes in (0, 1, 4095, 4096, 4097, 1 << 20):
        with memory.borrow(nbytes) as buffer:
            assert buffer.capacity >= nbytes
            assert buffer.view((nbytes,), torch.uint8).numel() == nbytes
