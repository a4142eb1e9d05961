"""Running a network on a CUDA device: workspaces with a stream and a CUDA graph for each batch bucket.

A batch is padded to the next bucket, and the whole network is launched as one recorded graph: the host pays for one
launch in place of hundreds. A bucket is recorded the first time it is needed in a workspace.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from services.infer.engine.context import Array, ExecutionContext
from services.infer.engine.memory import CudaAllocator, MemoryManager
from services.infer.engine.profile import OptimizationProfile
from services.infer.engine.program import Program

WARM_UP_RUNS = 3
HOST = torch.device("cpu")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordedGraph:
    """A recorded run: `inputs` are where the graph reads, `outputs` where it writes, both on the device."""

    graph: torch.cuda.CUDAGraph
    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Workspace:
    """What one run has to itself: a stream, and the graphs recorded on it by bucket."""

    stream: torch.cuda.Stream
    graphs: dict[int, RecordedGraph] = field(default_factory=dict)


class CudaMemoryManager(MemoryManager):
    """Owns workspaces beside the buffers; as many exist as runs were ever under way at once."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(CudaAllocator(device))
        self._workspaces: list[Workspace] = []

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """A workspace for as long as the block runs."""
        with self._lock:
            found = self._workspaces.pop() if self._workspaces else None
        device = self.allocator.device
        found = found or Workspace(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        try:
            yield found
        finally:
            with self._lock:
                self._workspaces.append(found)


def buckets(max_batch: int) -> tuple[int, ...]:
    """The powers of two below `max_batch`, and `max_batch`."""
    return (*(1 << i for i in range((max_batch - 1).bit_length())), max_batch)


class CudaContext(ExecutionContext):
    """With `graphs` the inputs of fixed size run as CUDA graphs, all others launch by launch."""

    def __init__(
        self, program: Program, profile: OptimizationProfile, memory: CudaMemoryManager, *, graphs: bool = True
    ) -> None:
        super().__init__(program, profile, memory)
        self._cuda = memory
        self._buckets = buckets(profile.max_batch)
        self._graphs = graphs and all(wanted.dynamic in ((), (0,)) for wanted in profile.inputs)

    def _compute(self, staged: Sequence[torch.Tensor]) -> list[Array]:
        with self._cuda.workspace() as workspace, torch.inference_mode(), torch.cuda.stream(workspace.stream):
            outputs = self._replay(staged, workspace) if self._graphs else self._launch(staged)
            arrays = [self._fetch(output) for output in outputs]
            # the arrays are read, and the pinned inputs used again, once the copies are done
            workspace.stream.synchronize()
        return arrays

    def _launch(self, staged: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        device = self._cuda.allocator.device
        return self._program.execute([host.to(device, non_blocking=True) for host in staged])

    def _replay(self, staged: Sequence[torch.Tensor], workspace: Workspace) -> list[torch.Tensor]:
        rows = len(staged[0])
        bucket = next(size for size in self._buckets if size >= rows)
        if bucket not in workspace.graphs:
            try:
                workspace.graphs[bucket] = self._record(bucket, workspace.stream)
            except RuntimeError as error:
                log.warning("no CUDA graph for batches of %d, they are launched step by step: %s", bucket, error)
                self._graphs = False
                return self._launch(staged)
        recorded = workspace.graphs[bucket]
        for target, host in zip(recorded.inputs, staged, strict=True):
            target[:rows].copy_(host, non_blocking=True)
        recorded.graph.replay()
        return [output[:rows] for output in recorded.outputs]

    def _record(self, bucket: int, stream: torch.cuda.Stream) -> RecordedGraph:
        samples = self._profile.sample(bucket, HOST)
        inputs = [self._cuda.allocator.allocate(sample.shape, sample.dtype).copy_(sample) for sample in samples]
        for _ in range(WARM_UP_RUNS):
            self._program.execute(inputs)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            outputs = self._program.execute(inputs)
        return RecordedGraph(graph, inputs, outputs)

    def _fetch(self, output: torch.Tensor) -> Array:
        tensor, array = self._memory.lend(output.shape, output.dtype)
        tensor.copy_(output, non_blocking=True)
        return array
