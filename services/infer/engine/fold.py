"""Constant folding: nodes whose inputs are all known are computed once, ahead of time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from services.infer.engine.graph import RuntimeGraph, RuntimeNode
from services.infer.engine.host import HostTensor, host_constant
from services.infer.engine.module import compute
from services.infer.engine.registry import Call, OperatorRegistry, Value
from stagemesh.errors import StagemeshError

MOST_GROWTH = 1 << 20
"""Elements a folded constant may have more than what it is made of."""

_CPU = torch.device("cpu")
_NEVER = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")


def fold_constants(graph: RuntimeGraph, registry: OperatorRegistry) -> RuntimeGraph:
    """A graph without the nodes that compute from constants alone; their outputs are constants."""
    constants, nodes = dict(graph.constants), []
    for node in graph.nodes:
        folded = folded_outputs(node, constants, registry)
        if folded is None:
            nodes.append(node)
        else:
            constants.update(folded)
    return graph.holding(nodes, constants)


def folded_outputs(
    node: RuntimeNode, constants: Mapping[str, Tensor], registry: OperatorRegistry
) -> dict[str, Tensor] | None:
    """The outputs of `node`, None where an input is unknown, or where they can't or should not be kept."""
    operator = registry.find(node)
    if operator is None or node.op_type in _NEVER or any(name and name not in constants for name in node.inputs):
        return None
    given = [constants[name] if name else None for name in node.inputs]
    try:
        if not _is_small(node, given, registry):
            return None
        results = compute(Call(node, tuple(_value(tensor) for tensor in given), _CPU), operator)
    except StagemeshError:
        return None  # it fails again, and is reported, when the graph is run
    tensors = [value.to(_CPU) for value in results]
    return {name: tensor.contiguous() for name, tensor in zip(node.outputs, tensors, strict=False) if name}


def _value(tensor: Tensor | None) -> Value | None:
    array = None if tensor is None else host_constant(tensor)
    return tensor if tensor is None or array is None else HostTensor(array, tensor.dtype, tensor)


def _is_small(node: RuntimeNode, given: Sequence[Tensor | None], registry: OperatorRegistry) -> bool:
    """Whether the outputs are no larger than they should be, found out without computing them."""
    operator = registry.find(node)
    assert operator is not None  # the caller found it
    mode = FakeTensorMode()
    inputs = tuple(_fake(tensor, mode) for tensor in given)
    with mode:
        results = compute(Call(node, inputs, _CPU), operator)
    limit = MOST_GROWTH + sum(tensor.numel() for tensor in given if tensor is not None)
    return (
        sum(math.prod(value.array.shape if isinstance(value, HostTensor) else value.shape) for value in results)
        <= limit
    )


def _fake(tensor: Tensor | None, mode: FakeTensorMode) -> Value | None:
    if tensor is None:
        return None
    array, fake = host_constant(tensor), mode.from_tensor(tensor)
    return fake if array is None else HostTensor(array, tensor.dtype, fake)
