"""Reductions, positions of extremes, running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.infer.engine.registry import Call, Operator, OperatorRegistry, Result, host_result

operators = OperatorRegistry()

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _keep_dtype(function: Callable[..., Tensor]) -> Reduction:
    def run(values: Tensor, axes: list[int], keep: bool) -> Tensor:
        return function(values, dim=axes, keepdim=keep).to(values.dtype)

    return run


def _product(values: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % values.ndim for axis in axes), reverse=True):
        values = values.prod(axis, keepdim=keep)
    return values


def _mean(values: Tensor, axes: list[int], keep: bool) -> Tensor:
    if values.is_floating_point():
        return values.mean(axes, keepdim=keep)
    return torch.div(values.sum(axes, keepdim=keep), _count(values, axes), rounding_mode="trunc").to(values.dtype)


def _count(values: Tensor, axes: list[int]) -> int:
    count = 1
    for axis in axes:
        count *= values.shape[axis]
    return count


def _log_sum_exp(values: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(values, axes, keepdim=keep)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _keep_dtype(torch.sum),
    "ReduceMean": _mean,
    "ReduceMax": _keep_dtype(torch.amax),
    "ReduceMin": _keep_dtype(torch.amin),
    "ReduceProd": _product,
    "ReduceL1": lambda values, axes, keep: values.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda values, axes, keep: values.square().sum(axes, keepdim=keep).sqrt(),
    "ReduceSumSquare": lambda values, axes, keep: values.square().sum(axes, keepdim=keep),
    "ReduceLogSum": lambda values, axes, keep: values.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": _log_sum_exp,
}
_HOST = {"ReduceSum": np.add, "ReduceProd": np.multiply}


def _reduction(function: Reduction) -> Operator:
    def run(call: Call) -> Result:
        axes = call.axes(1)
        keep = bool(call.node.integer("keepdims", 1))
        if not axes and call.node.integer("noop_with_empty_axes", 0):
            return call.value(0)
        hosts = call.hosts()
        if hosts and call.node.op_type in _HOST and len(hosts[0].array.shape) == 1:
            return _reduce_vector(call, hosts[0].array, keep)
        values = call.tensor(0)
        axes = axes or list(range(values.ndim))
        # torch takes an empty list of axes, a scalar's, for all of them or for none, depending on the function
        return function(values, axes, keep) if values.ndim else function(values.reshape(1), [0], False)

    return run


def _reduce_vector(call: Call, vector: np.ndarray[Any, Any], keep: bool) -> Result:
    total = _HOST[call.node.op_type].reduce(vector) if vector.size else int(call.node.op_type == "ReduceProd")
    scalar = np.empty((1,) if keep else (), dtype=vector.dtype)
    scalar[...] = total
    return host_result(call, scalar)


for _name, _function in _REDUCTIONS.items():
    operators.register(_name)(_reduction(_function))


@operators.register("ArgMax", "ArgMin")
def arg_extreme(call: Call) -> Result:
    values = call.tensor(0)
    axis, keep = call.node.integer("axis", 0), bool(call.node.integer("keepdims", 1))
    find = torch.argmax if call.node.op_type == "ArgMax" else torch.argmin
    if not call.node.integer("select_last_index", 0):
        return find(values, axis, keepdim=keep)
    return values.shape[axis] - 1 - find(values.flip(axis), axis, keepdim=keep)


@operators.register("TopK")
def top_k(call: Call) -> Result:
    values = call.tensor(0)
    count = int(call.numbers(1)[0]) if call.has(1) else call.node.integer("k", 0)
    axis, largest = call.node.integer("axis", -1), bool(call.node.integer("largest", 1))
    # a stable sort puts the lower index first among equals, which topk does not promise
    found, indices = torch.sort(values, dim=axis, descending=largest, stable=True)
    return found.narrow(axis, 0, count), indices.narrow(axis, 0, count)


@operators.register("CumSum")
def cumulative_sum(call: Call) -> Result:
    values, axis = call.tensor(0), int(call.numbers(1)[0])
    reverse = bool(call.node.integer("reverse", 0))
    values = values.flip(axis) if reverse else values
    sums = values.cumsum(axis, dtype=values.dtype)
    sums = sums - values if call.node.integer("exclusive", 0) else sums
    return sums.flip(axis) if reverse else sums
