"""Operators on shapes, and those that move values without computing any: on the host for sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from services.infer.engine.host import MOST_ELEMENTS, HostTensor
from services.infer.engine.registry import Call, OperatorRegistry, Result, host_result
from stagemesh.errors import ConfigError, StageFailed

operators = OperatorRegistry()

MOST_VALUES = 1 << 29


def checked_sizes(call: Call, sizes: Sequence[Any]) -> list[Any]:
    """`sizes` of a tensor about to be made. Raises StageFailed where no sane network would make it."""
    count = 1
    for size in sizes:
        if size < 0:
            raise StageFailed(f"{call.node}: expected sizes of 0 or more, found {list(sizes)}")
        if isinstance(size, int):
            count *= size
    if count > MOST_VALUES:
        raise StageFailed(f"{call.node}: a tensor of {list(sizes)} has more than {MOST_VALUES} values")
    return list(sizes)


def same_size(left: Any, right: Any) -> bool:
    """Whether two sizes are equal whatever their symbols stand for; asking sets no condition on them."""
    return bool(statically_known_true(left == right))


@operators.register("Shape")
def shape(call: Call) -> Result:
    sizes = call.shape(0)
    end = call.node.integer("end", len(sizes))
    return HostTensor.of(sizes[call.node.integer("start", 0) : end])


@operators.register("Size")
def size(call: Call) -> Result:
    return HostTensor.wrap(math.prod(call.shape(0)), torch.int64)


@operators.register("Reshape")
def reshape(call: Call) -> Result:
    sizes, wanted = call.shape(0), call.numbers(1)
    if not call.node.integer("allowzero", 0):
        if any(isinstance(item, int) and item == 0 and axis >= len(sizes) for axis, item in enumerate(wanted)):
            raise StageFailed(f"{call.node}: can't copy a size of {list(sizes)} to {wanted}")
        wanted = [sizes[axis] if isinstance(item, int) and item == 0 else item for axis, item in enumerate(wanted)]
    hosts = call.hosts()
    if hosts:
        return host_result(call, hosts[0].array.reshape([int(item) for item in wanted]))
    return call.tensor(0).reshape(wanted)


@operators.register("Flatten")
def flatten(call: Call) -> Result:
    values, axis = call.tensor(0), call.node.integer("axis", 1)
    axis = axis + values.ndim if axis < 0 else axis
    return values.reshape(math.prod(values.shape[:axis]), math.prod(values.shape[axis:]))


@operators.register("Squeeze")
def squeeze(call: Call) -> Result:
    sizes, axes = call.shape(0), call.axes(1)
    if axes is None:
        axes = [axis for axis, item in enumerate(sizes) if item == 1]
    wrong = [axis for axis in axes if sizes[axis] != 1]
    if wrong:
        raise StageFailed(f"{call.node}: expected a size of 1 at axes {wrong}, found {list(sizes)}")
    hosts = call.hosts()
    if hosts:
        return host_result(call, np.squeeze(hosts[0].array, tuple(axes)))
    return call.tensor(0).squeeze(axes)


@operators.register("Unsqueeze")
def unsqueeze(call: Call) -> Result:
    axes = call.axes(1) or []
    rank = len(call.shape(0)) + len(axes)
    axes = sorted(axis + rank if axis < 0 else axis for axis in axes)
    hosts = call.hosts()
    if hosts:
        return host_result(call, np.expand_dims(hosts[0].array, tuple(axes)))
    values = call.tensor(0)
    for axis in axes:
        values = values.unsqueeze(axis)
    return values


@operators.register("Transpose")
def transpose(call: Call) -> Result:
    order = call.node.integers("perm") or tuple(reversed(range(len(call.shape(0)))))
    hosts = call.hosts()
    return host_result(call, hosts[0].array.transpose(order)) if hosts else call.tensor(0).permute(order)


@operators.register("Concat")
def concat(call: Call) -> Result:
    axis = call.node.integer("axis", 1)
    hosts = call.hosts()
    if hosts:
        return host_result(call, np.concatenate([value.array for value in hosts], axis))
    return torch.cat(call.tensors(), axis)


@operators.register("Split")
def split(call: Call) -> Result:
    axis = call.node.integer("axis", 0)
    sizes = call.axes(1, "split") or _even_split(call, call.shape(0)[axis])
    total = call.shape(0)[axis]
    if sum(sizes) != total:
        raise StageFailed(f"{call.node}: expected parts that add up to {total}, found {sizes}")
    hosts = call.hosts()
    if not hosts:
        return torch.split(call.tensor(0), sizes, axis)
    parts = np.split(hosts[0].array, np.cumsum(sizes)[:-1], axis)
    return [host_result(call, part) for part in parts]


def _even_split(call: Call, total: Any) -> list[Any]:
    count = call.node.integer("num_outputs", len(call.node.outputs))
    part = -(-total // count)  # the last part takes what is left
    return [part] * (count - 1) + [total - part * (count - 1)]


@operators.register("Slice", until=9)
def slice_by_attributes(call: Call) -> Result:
    starts, ends = call.node.integers("starts") or (), call.node.integers("ends") or ()
    return _slice(call, starts, ends, call.node.integers("axes") or range(len(starts)), [1] * len(starts))


@operators.register("Slice", since=10)
def slice_by_inputs(call: Call) -> Result:
    starts, ends = call.numbers(1), call.numbers(2)
    axes = call.numbers(3) if call.has(3) else list(range(len(starts)))
    return _slice(call, starts, ends, axes, call.numbers(4) if call.has(4) else [1] * len(starts))


def _slice(call: Call, starts: Sequence[Any], ends: Sequence[Any], axes: Sequence[int], steps: Sequence[int]) -> Result:
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ConfigError(f"{call.node}: expected starts, ends, axes and steps of one length")
    spans = [slice(None)] * len(call.shape(0))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        spans[axis] = _span(call, start, end, step, call.shape(0)[axis])
    hosts = call.hosts()
    if hosts:
        return host_result(call, hosts[0].array[tuple(spans)])
    values = call.tensor(0)
    for axis, span in enumerate(spans):
        if span.step is not None and span.step < 0:
            # torch takes no negative steps: turn the axis round, and count from its other end
            values = values.flip(axis)
            spans[axis] = slice(span.start, span.stop, -span.step)
    return values[tuple(spans)]


def _span(call: Call, start: Any, end: Any, step: int, size: Any) -> slice:
    if step == 0:
        raise ConfigError(f"{call.node}: expected a step other than 0")
    if step > 0:
        return slice(start, end, step)
    start, end = _from_start(start, size), _from_start(end, size)
    if call.hosts():
        return slice(start, end if end >= 0 else None, step)
    first, last = min(start, size - 1), max(end, -1)
    return slice(size - 1 - first, size - 1 - last, step)


def _from_start(index: Any, size: Any) -> Any:
    return max(index + size, -1) if index < 0 else index


@operators.register("Expand")
def expand(call: Call) -> Result:
    sizes, wanted = call.shape(0), call.numbers(1)
    target = np_broadcast(sizes, wanted)
    hosts = call.hosts()
    if hosts and all(isinstance(item, int) for item in target) and math.prod(target) <= MOST_ELEMENTS:
        return host_result(call, np.broadcast_to(hosts[0].array, target))
    return call.tensor(0).expand(checked_sizes(call, target))


def np_broadcast(left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
    """The shape two shapes broadcast to, as far as one of each pair of sizes is 1 or they are equal."""
    rank = max(len(left), len(right))
    left, right = [1] * (rank - len(left)) + list(left), [1] * (rank - len(right)) + list(right)
    return [b if isinstance(a, int) and a == 1 else a for a, b in zip(left, right, strict=True)]


@operators.register("Tile")
def tile(call: Call) -> Result:
    repeats = call.numbers(1)
    checked_sizes(call, [size * count for size, count in zip(call.shape(0), repeats, strict=True)])
    return call.tensor(0).repeat(repeats)


@operators.register("ConstantOfShape")
def constant_of_shape(call: Call) -> Result:
    sizes = call.numbers(0)
    value = call.node.attributes.get("value", torch.zeros(1))
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ConfigError(f"{call.node}: attribute 'value': expected a tensor of one value, found {value!r}")
    plain = all(isinstance(item, int) for item in sizes)
    if plain and math.prod(checked_sizes(call, sizes)) <= MOST_ELEMENTS and not value.is_floating_point():
        return HostTensor.wrap(np.full(sizes, value.item()), value.dtype)
    return torch.full(checked_sizes(call, sizes), value.item(), dtype=value.dtype, device=call.device)


@operators.register("Range")
def range_of(call: Call) -> Result:
    start, limit, step = (call.numbers(index)[0] for index in range(3))
    if not isinstance(step, (torch.SymInt, torch.SymFloat)) and step == 0:
        raise StageFailed(f"{call.node}: expected a step other than 0")
    dtype = call.value(0).dtype
    if all(isinstance(item, int) for item in (start, limit, step)):
        numbers = range(start, limit, step)
        if len(numbers) <= MOST_ELEMENTS:
            return HostTensor.wrap(np.array(numbers, dtype=np.int64), dtype)
    if isinstance(limit, (int, float)):
        checked_sizes(call, [max(0, math.ceil((limit - start) / step))])
    return torch.arange(start, limit, step, dtype=dtype, device=call.device)


@operators.register("DepthToSpace")
def depth_to_space(call: Call) -> Result:
    values, block = call.tensor(0), call.node.integer("blocksize", 1)
    n, c, h, w = values.shape
    if call.node.text("mode", "DCR") == "CRD":
        blocks = values.reshape(n, c // block**2, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        blocks = values.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // block**2, h * block, w * block)


@operators.register("SpaceToDepth")
def space_to_depth(call: Call) -> Result:
    values, block = call.tensor(0), call.node.integer("blocksize", 1)
    n, c, h, w = values.shape
    blocks = values.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * block**2, h // block, w // block)
