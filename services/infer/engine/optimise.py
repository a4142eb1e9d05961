"""The passes that make a graph cheaper to run and leave what it computes as it is."""

from __future__ import annotations

import logging

from services.infer.engine.fold import fold_constants
from services.infer.engine.fold_conv import fold_into_convolutions
from services.infer.engine.fold_pad import fold_pads
from services.infer.engine.graph import RuntimeGraph, RuntimeNode
from services.infer.engine.layout import sink_transposes
from services.infer.engine.registry import OperatorRegistry

log = logging.getLogger(__name__)


def optimise(graph: RuntimeGraph, registry: OperatorRegistry) -> RuntimeGraph:
    """A graph that gives the same outputs, to rounding, with fewer nodes.

    Constants are computed once, copies and transposes that cancel out are gone, batch normalisations and other
    factors and offsets of a channel are part of the convolution before them, zeros padded around an image part of
    the one after. `graph` stays as it is.
    """
    before = len(graph.nodes)
    graph = fold_constants(without_copies(graph), registry)
    graph = sink_transposes(graph)
    graph = fold_pads(fold_into_convolutions(graph))
    graph = without_unused(fold_constants(graph, registry))
    log.debug("%s: %d nodes became %d", graph.name, before, len(graph.nodes))
    return graph


def without_copies(graph: RuntimeGraph) -> RuntimeGraph:
    """A graph without Identity and one-output Dropout nodes, save those that give an output its name."""
    outputs = {info.name for info in graph.outputs}
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if _copies(node) and node.outputs[0] not in outputs:
            renamed[node.outputs[0]] = inputs[0]
        else:
            nodes.append(node.reading(inputs))
    return graph.holding(nodes)


def _copies(node: RuntimeNode) -> bool:
    if node.domain or len(node.outputs) != 1 or not node.inputs or not node.inputs[0]:
        return False
    return node.op_type in ("Identity", "Dropout")


def without_unused(graph: RuntimeGraph) -> RuntimeGraph:
    """A graph without the nodes and constants that no output needs."""
    needed = {info.name for info in graph.outputs}
    nodes = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            nodes.append(node)
            needed.update(name for name in node.inputs if name)
    constants = {name: tensor for name, tensor in graph.constants.items() if name in needed}
    return graph.holding(nodes[::-1], constants)
