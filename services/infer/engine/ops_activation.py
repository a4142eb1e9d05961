"""Activation functions, soft maximum included."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from services.infer.engine.registry import Call, OperatorRegistry, Result

operators = OperatorRegistry()

operators.register("Relu")(lambda call: torch.relu(call.tensor(0)))
operators.register("Sigmoid")(lambda call: torch.sigmoid(call.tensor(0)))
operators.register("HardSwish")(lambda call: F.hardswish(call.tensor(0)))
operators.register("Mish")(lambda call: F.mish(call.tensor(0)))
operators.register("Softsign")(lambda call: F.softsign(call.tensor(0)))
# torch's threshold, above which it is the identity, costs accuracy
operators.register("Softplus")(lambda call: torch.logaddexp(call.tensor(0), torch.zeros_like(call.tensor(0))))


@operators.register("LeakyRelu")
def leaky_relu(call: Call) -> Result:
    return F.leaky_relu(call.tensor(0), call.node.real("alpha", 0.01))


@operators.register("PRelu")
def prelu(call: Call) -> Result:
    values, slope = call.tensor(0), call.tensor(1)
    return torch.where(values < 0, values * slope, values)


@operators.register("HardSigmoid")
def hard_sigmoid(call: Call) -> Result:
    return (call.tensor(0) * call.node.real("alpha", 0.2) + call.node.real("beta", 0.5)).clamp(0, 1)


@operators.register("Elu")
def elu(call: Call) -> Result:
    return F.elu(call.tensor(0), call.node.real("alpha", 1.0))


@operators.register("Celu")
def celu(call: Call) -> Result:
    return F.celu(call.tensor(0), call.node.real("alpha", 1.0))


@operators.register("Selu")
def selu(call: Call) -> Result:
    alpha, gamma = call.node.real("alpha", 1.6732632), call.node.real("gamma", 1.0507010)
    return F.elu(call.tensor(0), alpha) * gamma


@operators.register("ThresholdedRelu")
def thresholded_relu(call: Call) -> Result:
    return F.threshold(call.tensor(0), call.node.real("alpha", 1.0), 0.0)


@operators.register("Gelu")
def gelu(call: Call) -> Result:
    return F.gelu(call.tensor(0), approximate=call.node.text("approximate", "none"))


@operators.register("Softmax", "LogSoftmax", "Hardmax", until=12)
def softmax_flattened(call: Call) -> Result:
    # up to opset 12 everything from `axis` on is one row
    values = call.tensor(0)
    axis = call.node.integer("axis", 1)
    axis = axis + values.ndim if axis < 0 else axis
    flat = values.reshape(math.prod(values.shape[:axis]), -1)
    return _soft(call, flat, 1).reshape(values.shape)


@operators.register("Softmax", "LogSoftmax", "Hardmax", since=13)
def softmax(call: Call) -> Result:
    return _soft(call, call.tensor(0), call.node.integer("axis", -1))


def _soft(call: Call, values: Tensor, axis: int) -> Tensor:
    if call.node.op_type == "Softmax":
        return torch.softmax(values, axis)
    if call.node.op_type == "LogSoftmax":
        return torch.log_softmax(values, axis)
    return torch.zeros_like(values).scatter(axis, values.argmax(axis, keepdim=True), 1.0)
