"""Constant folding: nodes whose inputs are all known are computed once, ahead of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from services.infer.engine.fake import constant_value, fake_of, without_memory
from services.infer.engine.graph import RuntimeGraph, RuntimeNode
from services.infer.engine.host import HostTensor
from services.infer.engine.module import compute
from services.infer.engine.registry import Call, Operator, OperatorRegistry, Value
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
    given = [constant_value(constants[name]) if name else None for name in node.inputs]
    try:
        if not _stays_small(node, given, operator):
            return None
        results = compute(Call(node, tuple(given), _CPU), operator)
    except StagemeshError:
        return None  # it fails again, and is reported, when the graph is run
    tensors = [value.to(_CPU) for value in results]
    return {name: tensor.contiguous() for name, tensor in zip(node.outputs, tensors, strict=False) if name}


def _stays_small(node: RuntimeNode, given: Sequence[Value | None], operator: Operator) -> bool:
    """Whether the outputs are no larger than they should be, found out without computing them."""
    with without_memory() as mode:
        inputs = tuple(None if value is None else fake_of(value, mode) for value in given)
        results = compute(Call(node, inputs, _CPU), operator)
    allowed = MOST_GROWTH + sum(_count(value) for value in given if value is not None)
    return sum(_count(value) for value in results) <= allowed


def _count(value: Value) -> int:
    return value.array.size if isinstance(value, HostTensor) else value.numel()
