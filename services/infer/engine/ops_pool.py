"""Pooling, with padding that differs by side and output sizes rounded up."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from services.infer.engine.host import larger
from services.infer.engine.registry import Call, OperatorRegistry, Result
from services.infer.engine.windows import Window, pad_spatial, window_of
from stagemesh.errors import ConfigError

operators = OperatorRegistry()

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MAX_INDICES = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_SUM = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@operators.register("GlobalAveragePool")
def global_average_pool(call: Call) -> Result:
    values = call.tensor(0)
    return values.mean(tuple(range(2, values.ndim)), keepdim=True)


@operators.register("GlobalMaxPool")
def global_max_pool(call: Call) -> Result:
    values = call.tensor(0)
    return values.amax(tuple(range(2, values.ndim)), keepdim=True)


@operators.register("MaxPool")
def max_pool(call: Call) -> Result:
    """Input [N,C,...]; the optional second output has the flat index of each maximum, over the whole input."""
    values = call.tensor(0)
    window = _checked_window(call, values)
    ceil = bool(call.node.integer("ceil_mode", 0))
    rank, dtype = values.ndim - 2, values.dtype
    if not values.is_floating_point():
        values = values.to(torch.float32)  # int8 and uint8, which torch does not pool, are exact in it
    if _is_native(window):
        padding: tuple[Any, ...] = window.before
    else:
        low = float(torch.finfo(values.dtype).min)
        values, padding, ceil = _pad_for(window, values, ceil, low), (0,) * rank, False
    if len(call.node.outputs) < 2 or not call.node.outputs[1]:
        pooled: Tensor = _MAX[rank](values, window.kernel, window.strides, padding, window.dilations, ceil)
        return pooled.to(dtype)
    pooled, indices = _MAX_INDICES[rank](values, window.kernel, window.strides, padding, window.dilations, ceil)
    return pooled.to(dtype), _flat_indices(call, window, values, indices, padding)


def _flat_indices(call: Call, window: Window, padded: Tensor, indices: Tensor, padding: tuple[Any, ...]) -> Tensor:
    sizes = call.tensor(0).shape
    if call.node.integer("storage_order", 0):
        raise ConfigError(f"{call.node}: attribute 'storage_order': expected 0, found 1")
    if padded.shape != sizes:
        parts = []
        for axis in range(len(sizes) - 1, 1, -1):
            parts.append(indices % padded.shape[axis] - window.before[axis - 2] + padding[axis - 2])
            indices = indices // padded.shape[axis]
        indices = torch.zeros_like(indices)
        for axis, part in zip(range(2, len(sizes)), reversed(parts), strict=True):
            indices = indices * sizes[axis] + part
    planes = torch.arange(sizes[0] * sizes[1], device=indices.device) * math.prod(sizes[2:])
    return indices + planes.reshape(sizes[0], sizes[1], *([1] * (len(sizes) - 2)))


@operators.register("AveragePool")
def average_pool(call: Call) -> Result:
    """Input [N,C,...]; padding counts in the mean where count_include_pad says so."""
    values = call.tensor(0)
    window = _checked_window(call, values)
    ceil, counted = bool(call.node.integer("ceil_mode", 0)), bool(call.node.integer("count_include_pad", 0))
    rank = values.ndim - 2
    if _is_native(window) and set(window.dilations) == {1}:
        pooled: Tensor = _AVERAGE[rank](values, window.kernel, window.strides, window.before, ceil, counted)
        return pooled
    ones = torch.ones((1, 1, *values.shape[2:]), dtype=values.dtype, device=values.device)
    mask = _pad_for(window, window.pad(ones, 1.0 if counted else 0.0), ceil, 0.0, padded=True)
    totals = _window_sums(window, _pad_for(window, values, ceil, 0.0))
    return totals / _window_sums(window, mask)


def _window_sums(window: Window, padded: Tensor) -> Tensor:
    rank = padded.ndim - 2
    planes = padded.reshape(-1, 1, *padded.shape[2:])
    ones = torch.ones((1, 1, *window.kernel), dtype=padded.dtype, device=padded.device)
    sums: Tensor = _SUM[rank](planes, ones, None, window.strides, 0, window.dilations)
    return sums.reshape(*padded.shape[:2], *sums.shape[2:])


def _checked_window(call: Call, values: Tensor) -> Window:
    if values.ndim - 2 not in _MAX:
        raise ConfigError(f"{call.node}: expected an input of 3 to 5 dimensions, found {values.ndim}")
    return window_of(call.node, values.shape[2:])


def _is_native(window: Window) -> bool:
    # torch pads both sides alike, by half a kernel at most
    return window.is_symmetric and all(
        0 <= pad <= size // 2 for pad, size in zip(window.before, window.kernel, strict=True)
    )


def _pad_for(window: Window, values: Tensor, ceil: bool, fill: float, padded: bool = False) -> Tensor:
    """Pad as `window` says, and where sizes round up by what the last window needs."""
    values = values if padded else window.pad(values, fill)
    if not ceil:
        return values
    more = []
    for axis, size in enumerate(values.shape[2:]):
        stride, extent = window.strides[axis], window.extent(axis)
        steps = -((extent - size) // stride)
        if steps * stride >= size - window.after[axis]:  # a window must start before the padding after the data
            steps -= 1
        more.append(larger(steps * stride + extent - size, 0))
    return pad_spatial(values, (0,) * len(more), more, fill)


@operators.register("LpPool")
def lp_pool(call: Call) -> Result:
    values, power = call.tensor(0), call.node.integer("p", 2)
    window = _checked_window(call, values)
    ceil = bool(call.node.integer("ceil_mode", 0))
    return _window_sums(window, _pad_for(window, values.abs().pow(power), ceil, 0.0)).pow(1 / power)
