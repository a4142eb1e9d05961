"""What a backend makes of a network: something that computes tensors on one device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

EAGER = "eager"
AOTINDUCTOR = "aotinductor"
ONNXRUNTIME = "onnxruntime"
AUTO = "auto"
BACKENDS = (EAGER, AOTINDUCTOR, ONNXRUNTIME)


class Program(Protocol):
    """A network that is loaded; several threads may run it at once."""

    backend: str

    def execute(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The outputs, on the device of the inputs; they may share memory with the inputs."""
        ...


class SizedProgram:
    """Hands each batch to the program that was fastest at the nearest batch size, as a ratio."""

    def __init__(self, programs: Mapping[int, Program]) -> None:
        """`programs` by the batch size they were timed at."""
        self.backend = "+".join(sorted({program.backend for program in programs.values()}))
        self._programs = programs

    def execute(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Raises what the program raises."""
        batch = max(len(inputs[0]), 1)
        nearest = min(self._programs, key=lambda size: abs(math.log(size / batch)))
        return self._programs[nearest].execute(inputs)


class BackendUnavailable(Exception):
    """A backend that can't run a network here, with the reason; another one may."""
