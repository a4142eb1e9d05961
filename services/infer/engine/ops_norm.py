"""Normalisations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from services.infer.engine.registry import Call, OperatorRegistry, Result
from stagemesh.errors import ConfigError

operators = OperatorRegistry()


@operators.register("BatchNormalization")
def batch_normalization(call: Call) -> Result:
    """Input [N,C,...]; scale, shift, mean and variance [C]."""
    if call.node.integer("training_mode", 0):
        raise ConfigError(f"{call.node}: attribute 'training_mode': expected 0, found 1")
    values, scale, shift, mean, variance = (call.tensor(index) for index in range(5))
    return F.batch_norm(values, mean, variance, scale, shift, False, 0.0, call.node.real("epsilon", 1e-5))


@operators.register("InstanceNormalization")
def instance_normalization(call: Call) -> Result:
    values, scale, shift = (call.tensor(index) for index in range(3))
    return F.instance_norm(values, weight=scale, bias=shift, eps=call.node.real("epsilon", 1e-5))


@operators.register("LayerNormalization")
def layer_normalization(call: Call) -> Result:
    """Normalises everything from `axis` on; also gives the mean and the inverse deviation."""
    values = call.tensor(0)
    axis = call.node.integer("axis", -1)
    axes = list(range(axis + values.ndim if axis < 0 else axis, values.ndim))
    epsilon = call.node.real("epsilon", 1e-5)
    shape, shift = [values.shape[index] for index in axes], call.optional(2)
    if len(call.node.outputs) == 1 and list(call.shape(1)) == shape:
        return F.layer_norm(values, shape, call.tensor(1), shift, epsilon)
    mean = values.mean(axes, keepdim=True)
    inverse = torch.rsqrt(values.var(axes, correction=0, keepdim=True) + epsilon)
    result = (values - mean) * inverse * call.tensor(1)
    return (result if shift is None else result + shift), mean, inverse


@operators.register("GroupNormalization", since=21)
def group_normalization(call: Call) -> Result:
    values, scale, shift = (call.tensor(index) for index in range(3))
    return F.group_norm(values, call.node.integer("num_groups", 1), scale, shift, call.node.real("epsilon", 1e-5))


@operators.register("GroupNormalization", since=18, until=20)
def group_normalization_by_group(call: Call) -> Result:
    # opset 18 has one scale and one shift for a whole group
    values, scale, shift = (call.tensor(index) for index in range(3))
    groups = call.node.integer("num_groups", 1)
    normal = F.group_norm(values, groups, None, None, call.node.real("epsilon", 1e-5))
    shape = (1, -1) + (1,) * (values.ndim - 2)
    width = values.shape[1] // groups
    scale, shift = scale.repeat_interleave(width), shift.repeat_interleave(width)
    return normal * scale.reshape(shape) + shift.reshape(shape)


@operators.register("LRN")
def local_response_normalization(call: Call) -> Result:
    values, size = call.tensor(0), call.node.integer("size", 1)
    squares = F.pad(values.square().unsqueeze(1), (0, 0) * (values.ndim - 2) + ((size - 1) // 2, size // 2))
    total = squares.unfold(2, size, 1).sum(-1).squeeze(1)
    alpha, beta, bias = call.node.real("alpha", 1e-4), call.node.real("beta", 0.75), call.node.real("bias", 1.0)
    return values / (bias + alpha / size * total).pow(beta)


@operators.register("LpNormalization")
def lp_normalization(call: Call) -> Result:
    values, power = call.tensor(0), call.node.integer("p", 2)
    size: Tensor = torch.linalg.vector_norm(values, power, dim=call.node.integer("axis", -1), keepdim=True)
    return values / size
