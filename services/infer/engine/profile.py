"""The range of shapes an engine is built for: smallest, best and largest of every dimension of every input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.export import Dim

from stagemesh.errors import InvalidInput

SAMPLE_SEED = 0
EXPORT_BATCH = 2


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """One input: `min`, `opt` and `max` are whole shapes, batch first; a dimension is fixed where they agree.

    `dtype` is torch's name of the element type, as in "uint8". Raises ValueError where min <= opt <= max fails.
    """

    name: str
    dtype: str
    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        ranks = {len(self.min), len(self.opt), len(self.max)}
        ordered = all(0 < low <= mid <= high for low, mid, high in zip(self.min, self.opt, self.max, strict=False))
        if len(ranks) != 1 or not self.min or not ordered:
            raise ValueError(
                f"profile of '{self.name}': expected 0 < min <= opt <= max in every dimension, "
                f"found {list(self.min)}, {list(self.opt)}, {list(self.max)}"
            )

    @property
    def torch_dtype(self) -> torch.dtype:
        """The element type."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    @property
    def dynamic(self) -> tuple[int, ...]:
        """The dimensions of no fixed size."""
        return tuple(i for i, (low, high) in enumerate(zip(self.min, self.max, strict=True)) if low != high)

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether `shape` lies within the range."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )


@dataclass(frozen=True, slots=True)
class OptimizationProfile:
    """The ranges of all inputs, in their order; dimension 0 of each is the batch."""

    inputs: tuple[ShapeRange, ...]

    @property
    def max_batch(self) -> int:
        """The largest batch."""
        return min(shape.max[0] for shape in self.inputs)

    def batches(self) -> tuple[int, ...]:
        """The batch sizes that count most: the smallest, the best, ascending, each once."""
        first = self.inputs[0]
        return tuple(sorted({first.min[0], first.opt[0]}))

    def check(self, shapes: Sequence[Sequence[int]]) -> None:
        """Raises InvalidInput naming the input whose shape lies outside its range."""
        for wanted, shape in zip(self.inputs, shapes, strict=True):
            if not wanted.holds(shape):
                raise InvalidInput(
                    f"input '{wanted.name}': expected shapes from {list(wanted.min)} to {list(wanted.max)}, "
                    f"as the engine was built, got {list(shape)}"
                )

    def sample(self, batch: int, device: torch.device) -> list[torch.Tensor]:
        """Repeatable random inputs of the best size with `batch` samples."""
        generator = torch.Generator().manual_seed(SAMPLE_SEED)
        return [
            random_tensor((batch, *wanted.opt[1:]), wanted.torch_dtype, generator).to(device) for wanted in self.inputs
        ]

    def export_sample(self, device: torch.device) -> list[torch.Tensor]:
        """Inputs to trace with: torch takes a dimension of size 1 for a fixed one, so the batch is 2 if it may be."""
        return self.sample(min(EXPORT_BATCH, self.max_batch), device)

    def dynamic_shapes(self) -> tuple[dict[int, object], ...]:
        """What torch.export is told of the inputs: the dynamic dimensions and their bounds."""
        return tuple(
            {i: Dim.AUTO(min=wanted.min[i], max=wanted.max[i]) for i in wanted.dynamic} for wanted in self.inputs
        )


def random_tensor(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Normally distributed numbers; whole ones from 0 to 127; either flag."""
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 128, shape, generator=generator).to(dtype)
