"""Integers with scale and zero point, to floats and back."""

from __future__ import annotations

import torch
from torch import Tensor

from services.infer.engine.registry import Call, OperatorRegistry, Result
from stagemesh.errors import ConfigError

operators = OperatorRegistry()

_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32)


@operators.register("DequantizeLinear")
def dequantize(call: Call) -> Result:
    values, scale, zero = call.tensor(0), call.tensor(1), call.optional(2)
    whole = values.to(torch.int32)
    if zero is not None:
        whole = whole - _along(call, zero.to(torch.int32), values)
    return whole.to(scale.dtype) * _along(call, scale, values)


@operators.register("QuantizeLinear")
def quantize(call: Call) -> Result:
    values, scale, zero = call.tensor(0), call.tensor(1), call.optional(2)
    dtype = torch.uint8 if zero is None else zero.dtype
    if dtype not in _TYPES:
        raise ConfigError(f"{call.node}: expected a zero point of {', '.join(map(str, _TYPES))}, found {dtype}")
    whole = torch.round(values / _along(call, scale, values))
    if zero is not None:
        whole = whole + _along(call, zero.to(whole.dtype), values)
    limits = torch.iinfo(dtype)
    return whole.clamp(limits.min, limits.max).to(dtype)


def _along(call: Call, parameter: Tensor, values: Tensor) -> Tensor:
    """One parameter for the whole tensor, for each slice of `axis`, or for each block along `axis`."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    axis = call.node.integer("axis", 1) % values.ndim
    block = call.node.integer("block_size", 0)
    if block:
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, values.shape[axis])
    return parameter.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
