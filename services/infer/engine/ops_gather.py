"""Operators that pick or place values by index, and padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from services.infer.engine.host import HostTensor
from services.infer.engine.ops_shape import checked_sizes
from services.infer.engine.registry import Call, OperatorRegistry, Result, host_result
from stagemesh.errors import ConfigError, StageFailed

operators = OperatorRegistry()

_PAD_MODES = ("constant", "reflect", "edge", "wrap")
_MODES = ("none", "add", "mul", "max", "min")


@operators.register("Gather")
def gather(call: Call) -> Result:
    axis, indices = call.node.integer("axis", 0), call.value(1)
    hosts = call.hosts()
    if hosts:
        return host_result(call, _boxed(np.take(hosts[0].array, hosts[1].array.astype(np.int64), axis)))
    values = call.tensor(0)
    if isinstance(indices, HostTensor) and indices.array.ndim == 0:
        index = int(indices.array.item())
        size = values.shape[axis]
        if isinstance(size, int) and not -size <= index < size:
            raise StageFailed(f"{call.node}: expected an index below {size}, found {index}")
        return values.select(axis, index)
    flat = _wrapped(call.tensor(1), values.shape[axis])
    picked = values.index_select(axis, flat.reshape(-1))
    axis = axis % values.ndim
    return picked.reshape(*values.shape[:axis], *flat.shape, *values.shape[axis + 1 :])


def _boxed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value
    box = np.empty((), dtype=object if isinstance(value, torch.SymInt) else np.asarray(value).dtype)
    box[()] = value
    return box


def _wrapped(indices: Tensor, size: Any) -> Tensor:
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


@operators.register("GatherElements")
def gather_elements(call: Call) -> Result:
    values, axis = call.tensor(0), call.node.integer("axis", 0)
    return torch.gather(values, axis, _wrapped(call.tensor(1), values.shape[axis]))


@operators.register("GatherND")
def gather_nd(call: Call) -> Result:
    values, indices = call.tensor(0), call.tensor(1)
    batch = call.node.integer("batch_dims", 0)
    depth = indices.shape[-1]
    picks = [_wrapped(indices[..., axis], values.shape[batch + axis]) for axis in range(depth)]
    for axis in reversed(range(batch)):
        steps = torch.arange(values.shape[axis], device=values.device)
        picks.insert(0, steps.reshape(-1, *[1] * (indices.ndim - 2 - axis)))
    return values[tuple(picks)]


@operators.register("Scatter", "ScatterElements")
def scatter_elements(call: Call) -> Result:
    values, updates = call.tensor(0), call.tensor(2)
    axis = call.node.integer("axis", 0)
    indices = _wrapped(call.tensor(1), values.shape[axis])
    mode = _reduction(call)
    if mode == "none":
        return values.scatter(axis, indices, updates)
    return values.scatter_reduce(axis, indices, updates, _TORCH_REDUCE[mode])


_TORCH_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operators.register("ScatterND")
def scatter_nd(call: Call) -> Result:
    values, indices, updates = call.tensor(0), call.tensor(1), call.tensor(2)
    depth = indices.shape[-1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=values.device)
    for axis in range(depth):
        flat = flat * values.shape[axis] + _wrapped(indices[..., axis], values.shape[axis])
    rest = values.shape[depth:]
    rows = values.reshape(-1, *rest) if depth else values.unsqueeze(0)
    mode, flat = _reduction(call), flat.reshape(-1)
    updates = updates.reshape(-1, *rest)
    if mode == "none":
        return rows.index_copy(0, flat, updates).reshape(values.shape)
    places = flat.reshape(-1, *[1] * len(rest)).expand(updates.shape)
    return rows.scatter_reduce(0, places, updates, _TORCH_REDUCE[mode]).reshape(values.shape)


def _reduction(call: Call) -> str:
    mode = call.node.text("reduction", "none")
    if mode not in _MODES:
        raise ConfigError(f"{call.node}: attribute 'reduction': expected one of {', '.join(_MODES)}, found {mode!r}")
    return mode


@operators.register("Pad", until=10)
def pad_by_attributes(call: Call) -> Result:
    pads = call.node.integers("pads") or ()
    return _pad(call, list(pads), list(range(len(call.shape(0)))), call.node.real("value", 0.0))


@operators.register("Pad", since=11)
def pad_by_inputs(call: Call) -> Result:
    rank = len(call.shape(0))
    axes = [axis % rank for axis in call.numbers(3)] if call.has(3) else list(range(rank))
    value = call.numbers(2)[0] if call.has(2) else 0
    return _pad(call, call.numbers(1), axes, value)


def _pad(call: Call, pads: list[Any], axes: list[int], fill: Any) -> Tensor:
    values, mode = call.tensor(0), call.node.text("mode", "constant")
    if mode not in _PAD_MODES:
        raise ConfigError(f"{call.node}: attribute 'mode': expected one of {', '.join(_PAD_MODES)}, found {mode!r}")
    if len(pads) != 2 * len(axes):
        raise StageFailed(f"{call.node}: expected {2 * len(axes)} pads, found {len(pads)}")
    sides = {axis: (pads[at], pads[at + len(axes)]) for at, axis in enumerate(axes)}
    sizes = [size + sum(sides.get(axis, (0, 0))) for axis, size in enumerate(values.shape)]
    checked_sizes(call, sizes)
    if mode != "constant":
        return _pad_from_values(values, sides, mode)
    flat = [side for axis in reversed(range(values.ndim)) for side in sides.get(axis, (0, 0))]
    return F.pad(values, flat, value=fill)


def _pad_from_values(values: Tensor, sides: dict[int, tuple[Any, Any]], mode: str) -> Tensor:
    for axis, (before, after) in sides.items():
        if (before, after) == (0, 0):
            continue
        size = values.shape[axis]
        indices = torch.arange(-before, size + after, device=values.device)
        if mode == "edge":
            indices = indices.clamp(0, size - 1)
        elif mode == "wrap":
            indices = torch.remainder(indices, size)
        else:
            period = max(2 * (size - 1), 1)
            indices = torch.remainder(indices, period)
            indices = torch.minimum(indices, period - indices) if size > 1 else indices * 0
        values = values.index_select(axis, indices)
    return values


@operators.register("OneHot")
def one_hot(call: Call) -> Result:
    indices, depth, values = call.tensor(0), int(call.numbers(1)[0]), call.tensor(2)
    axis = call.node.integer("axis", -1)
    classes = torch.arange(depth, device=indices.device)
    hits = torch.where(indices < 0, indices + depth, indices).unsqueeze(-1) == classes
    axis = axis + hits.ndim if axis < 0 else axis
    return torch.where(hits.movedim(-1, axis), values[1], values[0])


@operators.register("NonZero")
def non_zero(call: Call) -> Result:
    return call.tensor(0).nonzero().t()


@operators.register("Trilu")
def trilu(call: Call) -> Result:
    diagonal = int(call.numbers(1)[0]) if call.has(1) else 0
    cut = torch.triu if call.node.integer("upper", 1) else torch.tril
    return cut(call.tensor(0), diagonal)


@operators.register("Dropout")
def dropout(call: Call) -> Result:
    # at inference nothing is dropped
    if len(call.node.outputs) == 1:
        return call.value(0)
    return call.value(0), torch.ones(call.shape(0), dtype=torch.bool, device=call.device)
