"""The arithmetic of sliding windows: what padding a convolution or a pool has on each side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from services.infer.engine.graph import RuntimeNode
from services.infer.engine.host import larger
from stagemesh.errors import ConfigError

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True, slots=True)
class Window:
    """A window over the spatial axes: one entry of each list for each axis."""

    kernel: tuple[Any, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[Any, ...]
    after: tuple[Any, ...]

    @property
    def is_symmetric(self) -> bool:
        """Whether both sides of every axis are padded alike."""
        return self.before == self.after

    def extent(self, axis: int) -> Any:
        """The pixels one window spans along `axis`."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def pad(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """`values` [N,C,...] padded; negative padding crops."""
        return pad_spatial(values, self.before, self.after, fill)


def pad_spatial(values: Tensor, before: Sequence[Any], after: Sequence[Any], fill: float = 0.0) -> Tensor:
    """`values` [N,C,...] with that many pixels of `fill` more on each side of each spatial axis."""
    sides = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
    return F.pad(values, sides, value=fill) if any(sides) else values


def window_of(node: RuntimeNode, sizes: Sequence[Any], kernel: Sequence[Any] | None = None) -> Window:
    """The window of a convolution or pool node over an input whose spatial sizes are `sizes`.

    Raises ConfigError for attributes that don't fit the number of spatial axes or make no window.
    """
    rank = len(sizes)
    if kernel is None:
        declared = node.integers("kernel_shape")
        if declared is None:
            raise ConfigError(f"{node}: expected an attribute 'kernel_shape', found none")
        kernel = declared
    strides = per_axis(node, "strides", rank)
    dilations = per_axis(node, "dilations", rank)
    if len(kernel) != rank:
        raise ConfigError(f"{node}: expected a kernel of {rank} dimensions, found {list(kernel)}")
    if any(size < 1 for size in kernel):
        raise ConfigError(f"{node}: expected a kernel of 1 or more, found {list(kernel)}")
    plain = Window(tuple(kernel), strides, dilations, (0,) * rank, (0,) * rank)
    mode = node.text("auto_pad", "NOTSET")
    if mode not in AUTO_PADS:
        raise ConfigError(f"{node}: attribute 'auto_pad': expected one of {', '.join(AUTO_PADS)}, found {mode!r}")
    if mode == "VALID":
        return plain
    if mode == "NOTSET":
        before, after = explicit_pads(node, rank)
    else:
        before, after = _same_pads(plain, sizes, upper=mode == "SAME_UPPER")
    return Window(plain.kernel, strides, dilations, before, after)


def per_axis(node: RuntimeNode, name: str, rank: int, default: int = 1) -> tuple[int, ...]:
    """Attribute `name`, one integer above 0 for each spatial axis. Raises ConfigError for anything else."""
    values = node.integers(name) or (default,) * rank
    if len(values) != rank or any(value < 1 for value in values):
        raise ConfigError(f"{node}: attribute '{name}': expected {rank} integers of 1 or more, found {list(values)}")
    return values


def explicit_pads(node: RuntimeNode, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Attribute 'pads': pixels before and after each axis. Raises ConfigError for another count."""
    pads = node.integers("pads") or (0,) * (2 * rank)
    if len(pads) != 2 * rank:
        raise ConfigError(f"{node}: attribute 'pads': expected {2 * rank} integers, found {list(pads)}")
    return pads[:rank], pads[rank:]


def split_total(totals: Sequence[Any], upper: bool) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Each total halved; an odd pixel goes after where `upper`, else before."""
    small = tuple(total // 2 for total in totals)
    large = tuple(total - half for total, half in zip(totals, small, strict=True))
    return (small, large) if upper else (large, small)


def _same_pads(window: Window, sizes: Sequence[Any], upper: bool) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    totals = []
    for axis, size in enumerate(sizes):
        count = (size + window.strides[axis] - 1) // window.strides[axis]
        totals.append(larger((count - 1) * window.strides[axis] + window.extent(axis) - size, 0))
    return split_total(totals, upper)
