"""What runs a network once: inputs into borrowed buffers, the program, outputs into lent ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt
import torch

from services.infer.engine.memory import MemoryManager
from services.infer.engine.profile import OptimizationProfile
from services.infer.engine.program import Program

Array = npt.NDArray[np.generic]


class ExecutionContext:
    """Runs one batch at a time; contexts of one engine run side by side, each in a thread of its own."""

    def __init__(self, program: Program, profile: OptimizationProfile, memory: MemoryManager) -> None:
        self._program = program
        self._profile = profile
        self._memory = memory

    def enqueue(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute the outputs of `inputs`, arrays in the order of the profile, batch first.

        An output's memory is lent: it is used again when the array and all views of it are gone. Raises
        InvalidInput for shapes outside the profile, and what the network raises; all buffers go back then.
        """
        self._profile.check([array.shape for array in inputs])
        with ExitStack() as stack:
            staged = [self._stage(array, dtype, stack) for array, dtype in self._typed(inputs)]
            return self._compute(staged)

    def _compute(self, staged: Sequence[torch.Tensor]) -> list[Array]:
        return [self._fetch(output) for output in self._program.execute(staged)]

    def _typed(self, inputs: Sequence[Array]) -> list[tuple[Array, torch.dtype]]:
        return [(array, wanted.torch_dtype) for array, wanted in zip(inputs, self._profile.inputs, strict=True)]

    def _stage(self, array: Array, dtype: torch.dtype, stack: ExitStack) -> torch.Tensor:
        """A host tensor with the values of `array`, which may be read-only bytes of the wire."""
        buffer = stack.enter_context(self._memory.borrow(math.prod(array.shape) * dtype.itemsize))
        host = buffer.view(array.shape, dtype)
        np.copyto(host.numpy(), array, casting="same_kind")
        return host

    def _fetch(self, output: torch.Tensor) -> Array:
        tensor, array = self._memory.lend(output.shape, output.dtype)
        tensor.copy_(output)
        return array
