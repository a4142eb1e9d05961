"""On a CUDA device: the CPU's results, graphs on and off, and memory that stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.infer.engine.cuda_context import CudaContext, CudaMemoryManager, buckets
from services.infer.engine.eager import EagerProgram
from tests.engine_build.tiny import MAX_BATCH, PROFILE, Tiny, check, expected, images

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize(
    ("largest", "wanted"), [(1, (1,)), (2, (1, 2)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12)), (3, (1, 2, 3))]
)
def test_buckets_end_with_the_largest_batch(largest: int, wanted: tuple[int, ...]) -> None:
    assert buckets(largest) == wanted


@needs_cuda
@pytest.mark.parametrize("graphs", [True, False])
def test_results_are_those_of_the_cpu(graphs: bool) -> None:
    device = torch.device("cuda")
    program = EagerProgram(Tiny().eval().to(device))
    context = CudaContext(program, PROFILE, CudaMemoryManager(device), graphs=graphs)
    for batch in range(1, MAX_BATCH + 1):
        check(context, batch)


@needs_cuda
@pytest.mark.parametrize("graphs", [True, False])
def test_device_memory_is_constant_after_warm_up(graphs: bool) -> None:
    device = torch.device("cuda")
    memory = CudaMemoryManager(device)
    context = CudaContext(EagerProgram(Tiny().eval().to(device)), PROFILE, memory, graphs=graphs)
    for batch in range(1, MAX_BATCH + 1):
        context.enqueue([images(batch)])
    before = memory.statistics()
    for index in range(500):
        outputs = context.enqueue([images(1 + index % MAX_BATCH, 1)])
    np.testing.assert_allclose(outputs[0], expected(images(1 + 499 % MAX_BATCH, 1))[0], rtol=1e-3, atol=1e-4)
    after = memory.statistics()
    assert after.device_bytes == before.device_bytes
    assert after.device_allocations == before.device_allocations
    assert after.host_bytes == before.host_bytes
