"""An engine: a program on a device with the memory it runs in, and contexts for those who run it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from services.infer.engine.aotinductor import PackageProgram
from services.infer.engine.context import Array, ExecutionContext
from services.infer.engine.cuda_context import CudaContext, CudaMemoryManager
from services.infer.engine.manifest import Tactic
from services.infer.engine.memory import CpuAllocator, MemoryManager
from services.infer.engine.onnx_session import OnnxProgram, runtime_version
from services.infer.engine.profile import OptimizationProfile
from services.infer.engine.program import ONNXRUNTIME, Program


def deserialize(backend: str, path: Path, threads: int) -> Program:
    """The program in an engine file. Raises BackendUnavailable where the backend can't read it."""
    return OnnxProgram(path, threads) if backend == ONNXRUNTIME else PackageProgram(path)


def backend_version(backend: str) -> str:
    """The version that an engine file of `backend` is bound to."""
    return runtime_version() if backend == ONNXRUNTIME else f"torch {torch.__version__}"


class Engine:
    """Runs one network on one device; `tactic` is what was measured to choose its backend, if anything was."""

    def __init__(
        self,
        program: Program,
        profile: OptimizationProfile,
        device: torch.device,
        tactic: Tactic | None = None,
    ) -> None:
        self.backend = program.backend
        self.profile = profile
        self.tactic = tactic
        cuda = device.type == "cuda"
        self.memory = CudaMemoryManager(device) if cuda else MemoryManager(CpuAllocator(device))
        self._program = program
        self._idle: list[ExecutionContext] = []
        self._lock = threading.Lock()

    def create_context(self) -> ExecutionContext:
        """A context of its own for one thread."""
        if isinstance(self.memory, CudaMemoryManager):
            return CudaContext(self._program, self.profile, self.memory)
        return ExecutionContext(self._program, self.profile, self.memory)

    @contextmanager
    def context(self) -> Iterator[ExecutionContext]:
        """Borrow a context while the block runs: as many exist as were ever needed at once."""
        with self._lock:
            context = self._idle.pop() if self._idle else None
        context = context or self.create_context()
        try:
            yield context
        finally:
            with self._lock:
                self._idle.append(context)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Enqueue one batch on a borrowed context; see `ExecutionContext.enqueue`."""
        with self.context() as context:
            return context.enqueue(inputs)
