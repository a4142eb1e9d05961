"""Operators that work value by value: arithmetic, comparisons, logic, casts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.infer.engine.host import Array, HostTensor, divide, larger, pointwise, smaller
from services.infer.engine.onnx_tensors import dtype_of
from services.infer.engine.registry import Call, Operator, OperatorRegistry, Result, host_result
from stagemesh.errors import ConfigError

operators = OperatorRegistry()


def _unary(tensor: Callable[[Tensor], Tensor], host: Callable[[Array], Array] | None = None) -> Operator:
    def run(call: Call) -> Result:
        hosts = call.hosts() if host else None
        return host_result(call, host(hosts[0].array)) if host and hosts else tensor(call.tensor(0))

    return run


def _binary(
    tensor: Callable[[Tensor, Tensor], Tensor],
    host: Callable[[Array, Array], Array] | None = None,
    dtype: torch.dtype | None = None,
) -> Operator:
    def run(call: Call) -> Result:
        hosts = call.hosts() if host else None
        if host and hosts and len(hosts) == 2:
            return host_result(call, host(hosts[0].array, hosts[1].array), dtype)
        return tensor(call.tensor(0), call.tensor(1))

    return run


def _variadic(
    tensor: Callable[[Tensor, Tensor], Tensor], host: Callable[[Array, Array], Array] | None = None
) -> Operator:
    def run(call: Call) -> Result:
        hosts = call.hosts() if host else None
        if host and hosts:
            return host_result(call, functools.reduce(host, [value.array for value in hosts]))
        return functools.reduce(tensor, call.tensors())

    return run


def _divide(left: Tensor, right: Tensor) -> Tensor:
    return left / right if left.is_floating_point() else torch.div(left, right, rounding_mode="trunc")


def _integral(function: Callable[[Any], Any]) -> Callable[[Array], Array]:
    def one(value: Any) -> Any:
        return function(value) if isinstance(value, torch.SymFloat) or math.isfinite(value) else value

    return pointwise(one)


def _round(value: Any) -> Any:
    return round(value)


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Exp": torch.exp,
    "Log": torch.log,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Tanh": torch.tanh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Erf": torch.erf,
    "Reciprocal": torch.reciprocal,
    "Sign": torch.sign,
    "IsNaN": torch.isnan,
    "BitwiseNot": torch.bitwise_not,
}
_UNARY_HOST: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Array], Array]]] = {
    "Abs": (torch.abs, np.abs),
    "Neg": (torch.neg, np.negative),
    "Floor": (torch.floor, _integral(math.floor)),
    "Ceil": (torch.ceil, _integral(math.ceil)),
    "Round": (torch.round, _integral(_round)),
    "Sqrt": (torch.sqrt, lambda array: np.asarray(np.sqrt(array))),
}
_BINARY: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Array, Array], Array] | None]] = {
    "Add": (torch.add, np.add),
    "Sub": (torch.sub, np.subtract),
    "Mul": (torch.mul, np.multiply),
    "Div": (_divide, divide),
    "BitwiseAnd": (torch.bitwise_and, None),
    "BitwiseOr": (torch.bitwise_or, None),
    "BitwiseXor": (torch.bitwise_xor, None),
}
_COMPARE: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Array, Array], Array] | None]] = {
    "Equal": (torch.eq, np.equal),
    "Greater": (torch.gt, np.greater),
    "GreaterOrEqual": (torch.ge, np.greater_equal),
    "Less": (torch.lt, np.less),
    "LessOrEqual": (torch.le, np.less_equal),
    "And": (torch.logical_and, np.logical_and),
    "Or": (torch.logical_or, np.logical_or),
    "Xor": (torch.logical_xor, None),
}

for _name, _function in _UNARY.items():
    operators.register(_name)(_unary(_function))
for _name, (_function, _host) in _UNARY_HOST.items():
    operators.register(_name)(_unary(_function, _host))
for _name, (_pair, _pair_host) in _BINARY.items():
    operators.register(_name)(_binary(_pair, _pair_host))
for _name, (_pair, _pair_host) in _COMPARE.items():
    operators.register(_name)(_binary(_pair, _pair_host, torch.bool))

_sym_max: Callable[..., Array] = pointwise(larger)
_sym_min: Callable[..., Array] = pointwise(smaller)


def _largest(left: Array, right: Array) -> Array:
    return _sym_max(left, right) if object in (left.dtype, right.dtype) else np.maximum(left, right)


def _smallest(left: Array, right: Array) -> Array:
    return _sym_min(left, right) if object in (left.dtype, right.dtype) else np.minimum(left, right)


operators.register("Max")(_variadic(torch.maximum, _largest))
operators.register("Min")(_variadic(torch.minimum, _smallest))
operators.register("Sum")(_variadic(torch.add, np.add))
operators.register("Not")(_unary(torch.logical_not))
operators.register("Identity")(lambda call: call.value(0))


@operators.register("Mean")
def mean(call: Call) -> Result:
    tensors = call.tensors()
    return functools.reduce(torch.add, tensors) / len(tensors)


@operators.register("Mod")
def mod(call: Call) -> Result:
    if call.node.integer("fmod", 0):
        return torch.fmod(call.tensor(0), call.tensor(1))
    hosts = call.hosts()
    if hosts and np.all(hosts[1].array):
        return host_result(call, np.mod(hosts[0].array, hosts[1].array))
    return torch.remainder(call.tensor(0), call.tensor(1))


@operators.register("Pow")
def power(call: Call) -> Result:
    base = call.tensor(0)
    exponent = call.value(1)
    if isinstance(exponent, HostTensor) and exponent.array.size == 1 and base.is_floating_point():
        result = base.pow(exponent.array.item())
        return result.reshape((1,) * (exponent.array.ndim - base.ndim) + tuple(base.shape))
    # the result has the type of the base, whatever the type of the exponent
    return torch.pow(base, call.tensor(1)).to(base.dtype)


@operators.register("BitShift")
def bit_shift(call: Call) -> Result:
    direction = call.node.text("direction", "")
    if direction not in ("LEFT", "RIGHT"):
        raise ConfigError(f"{call.node}: attribute 'direction': expected LEFT or RIGHT, found {direction!r}")
    shift = torch.bitwise_left_shift if direction == "LEFT" else torch.bitwise_right_shift
    return shift(call.tensor(0), call.tensor(1))


@operators.register("IsInf")
def is_inf(call: Call) -> Result:
    values = call.tensor(0)
    negative, positive = call.node.integer("detect_negative", 1), call.node.integer("detect_positive", 1)
    found = torch.zeros_like(values, dtype=torch.bool)
    found = found | torch.isneginf(values) if negative else found
    return found | torch.isposinf(values) if positive else found


@operators.register("Where")
def where(call: Call) -> Result:
    hosts = call.hosts()
    if hosts and not hosts[0].is_symbolic:
        chosen = np.where(hosts[0].array, hosts[1].array, hosts[2].array)
        return HostTensor.wrap(chosen, hosts[1].dtype)
    return torch.where(call.tensor(0).to(torch.bool), call.tensor(1), call.tensor(2))


@operators.register("Clip", until=10)
def clip_by_attributes(call: Call) -> Result:
    low, high = call.node.real("min", -math.inf), call.node.real("max", math.inf)
    return call.tensor(0).clamp(low, high)


@operators.register("Clip", since=11)
def clip(call: Call) -> Result:
    values = call.tensor(0)
    low, high = _bound(call, 1), _bound(call, 2)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        values = values if low is None else torch.maximum(values, call.tensor(1))
        return values if high is None else torch.minimum(values, call.tensor(2))
    if low is None and high is None:
        return values
    # where the bounds cross, the upper one wins, in ONNX as in torch
    return torch.clamp(values, low, high)


def _bound(call: Call, index: int) -> float | Tensor | None:
    if not call.has(index):
        return None
    value = call.value(index)
    return value.array.item() if isinstance(value, HostTensor) else value


@operators.register("Cast")
def cast(call: Call) -> Result:
    return _cast(call, dtype_of(call.node.integer("to", 0), str(call.node)))


@operators.register("CastLike")
def cast_like(call: Call) -> Result:
    return _cast(call, call.value(1).dtype)


def _cast(call: Call, dtype: torch.dtype) -> Result:
    value = call.value(0)
    if isinstance(value, HostTensor) and dtype in (torch.int32, torch.int64, torch.float32, torch.float64, torch.bool):
        return value.cast(dtype)
    return call.tensor(0).to(dtype)
