"""Convolutions, matrix products."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from services.infer.engine.registry import Call, OperatorRegistry, Result
from services.infer.engine.windows import Window, explicit_pads, per_axis, split_total, window_of
from stagemesh.errors import ConfigError

operators = OperatorRegistry()

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operators.register("Conv")
def conv(call: Call) -> Result:
    """Input [N,C,...], filters [M,C/group,...], optional bias [M]."""
    values, filters, bias = call.tensor(0), call.tensor(1), call.optional(2)
    rank = _spatial_rank(call, values)
    window = window_of(call.node, values.shape[2:], filters.shape[2:])
    padding: tuple[Any, ...] = window.before
    if not window.is_symmetric:
        values, padding = window.pad(values), (0,) * rank
    group = call.node.integer("group", 1)
    result: Tensor = _CONV[rank](values, filters, bias, window.strides, padding, window.dilations, group)
    return result


@operators.register("ConvTranspose")
def conv_transpose(call: Call) -> Result:
    """Input [N,C,...], filters [C,M/group,...], optional bias [M]."""
    values, filters, bias = call.tensor(0), call.tensor(1), call.optional(2)
    rank = _spatial_rank(call, values)
    strides, dilations = per_axis(call.node, "strides", rank), per_axis(call.node, "dilations", rank)
    window = Window(tuple(filters.shape[2:]), strides, dilations, (0,) * rank, (0,) * rank)
    extra = call.node.integers("output_padding") or (0,) * rank
    before, after, extra = _transpose_pads(call, window, values.shape[2:], extra)
    group = call.node.integer("group", 1)
    deconvolve = _CONV_TRANSPOSE[rank]
    if before == after and all(pad >= 0 for pad in before) and all(e < s for e, s in zip(extra, strides, strict=True)):
        whole: Tensor = deconvolve(values, filters, bias, strides, before, extra, group, dilations)
        return whole
    full: Tensor = deconvolve(values, filters, bias, strides, 0, 0, group, dilations)
    return _cropped(full, bias, before, tuple(a - e for a, e in zip(after, extra, strict=True)))


def _transpose_pads(
    call: Call, window: Window, sizes: Any, extra: tuple[int, ...]
) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[int, ...]]:
    rank = len(sizes)
    mode = call.node.text("auto_pad", "NOTSET")
    wanted = call.node.integers("output_shape")
    if wanted is None and mode in ("NOTSET", "VALID"):
        before, after = explicit_pads(call.node, rank) if mode == "NOTSET" else ((0,) * rank, (0,) * rank)
        return before, after, extra
    targets = wanted[-rank:] if wanted else [size * s for size, s in zip(sizes, window.strides, strict=True)]
    totals = [
        window.strides[axis] * (sizes[axis] - 1) + extra[axis] + window.extent(axis) - targets[axis]
        for axis in range(rank)
    ]
    before, after = split_total(totals, upper=mode == "SAME_UPPER")
    return before, after, extra


def _cropped(full: Tensor, bias: Tensor | None, before: tuple[Any, ...], after: tuple[Any, ...]) -> Tensor:
    for axis in range(len(before)):
        length = full.shape[axis + 2] - max(before[axis], 0) - max(after[axis], 0)
        full = full.narrow(axis + 2, max(before[axis], 0), length)
    grow = [(max(-b, 0), max(-a, 0)) for b, a in zip(before, after, strict=True)]
    sides = [side for pair in reversed(grow) for side in pair]
    if not any(sides):
        return full
    # pixels no input reaches hold the bias alone
    shape = (1, -1) + (1,) * len(before)
    return F.pad(full, sides) if bias is None else F.pad(full - bias.view(shape), sides) + bias.view(shape)


def _spatial_rank(call: Call, values: Tensor) -> int:
    rank = values.ndim - 2
    if rank not in _CONV:
        raise ConfigError(f"{call.node}: expected an input of 3 to 5 dimensions, found {values.ndim}")
    return rank


@operators.register("MatMul")
def matmul(call: Call) -> Result:
    return torch.matmul(call.tensor(0), call.tensor(1))


@operators.register("Gemm")
def gemm(call: Call) -> Result:
    """alpha·A·B + beta·C, A and B [.,.] transposed where transA, transB say so."""
    left, right, bias = call.tensor(0), call.tensor(1), call.optional(2)
    left = left.t() if call.node.integer("transA", 0) else left
    right = right.t() if call.node.integer("transB", 0) else right
    alpha, beta = call.node.real("alpha", 1.0), call.node.real("beta", 1.0)
    if bias is None:
        product = left @ right
        return product if alpha == 1 else product * alpha
    if left.is_floating_point():
        return torch.addmm(bias, left, right, beta=beta, alpha=alpha)
    return (left @ right) * int(alpha) + bias * int(beta)


@operators.register("Einsum")
def einsum(call: Call) -> Result:
    return torch.einsum(call.node.text("equation", ""), *call.tensors())
