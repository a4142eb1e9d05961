"""Factors and offsets of a channel, batch normalisation above all, made part of the convolution before them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from services.infer.engine.graph import RuntimeGraph, RuntimeNode

_CONVOLUTIONS = ("Conv", "ConvTranspose")


def fold_into_convolutions(graph: RuntimeGraph) -> RuntimeGraph:
    """A graph where BatchNormalization, and Mul or Add of one constant a channel, are folded where they can be.

    A convolution takes in what follows it as long as its filters are constant and nothing else reads its output.
    """
    folding = _Folding(graph)
    for node in graph.nodes:
        folding.take(node)
    return graph.holding(folding.nodes, folding.constants)


class _Folding:
    def __init__(self, graph: RuntimeGraph) -> None:
        self.nodes: list[RuntimeNode] = []
        self.constants = dict(graph.constants)
        self._uses = graph.uses()
        self._makers: dict[str, int] = {}

    def take(self, node: RuntimeNode) -> None:
        source = next((name for name in node.inputs if name in self._makers), "")
        terms = self._terms(node, source) if self._uses[source] == 1 else None
        if terms is None:
            self.nodes.append(node)
            if self._is_constant_conv(node):
                self._makers[node.outputs[0]] = len(self.nodes) - 1
            return
        index = self._makers.pop(source)
        self.nodes[index] = self._scaled(self.nodes[index], *terms, output=node.outputs[0])
        self._makers[node.outputs[0]] = index

    def _is_constant_conv(self, node: RuntimeNode) -> bool:
        if node.domain or node.op_type not in _CONVOLUTIONS or len(node.inputs) not in (2, 3) or len(node.outputs) != 1:
            return False
        if any(name and name not in self.constants for name in node.inputs[1:]) or not node.inputs[1]:
            return False
        filters, group = self.constants[node.inputs[1]], node.integer("group", 1)
        bias = self.constants[node.inputs[2]] if node.inputs[2:] and node.inputs[2] else None
        fits = filters.ndim >= 3 and filters.is_floating_point() and group > 0 and filters.shape[0] % group == 0
        return fits and (bias is None or bias.shape == (self._channels(node),))

    def _terms(self, node: RuntimeNode, source: str) -> tuple[Tensor, Tensor] | None:
        """Factor and offset [M] that `node` applies to each channel of `source`, None where it does not."""
        if node.domain or not source:
            return None
        channels = self._channels(self.nodes[self._makers[source]])
        if node.op_type == "BatchNormalization" and len(node.outputs) == 1 and not node.integer("training_mode", 0):
            return self._normalisation(node, source)
        if node.op_type not in ("Mul", "Add", "Sub", "Div") or len(node.inputs) != 2:
            return None
        other = node.inputs[1] if node.inputs[0] == source else node.inputs[0]
        if node.op_type in ("Sub", "Div") and node.inputs[0] != source:
            return None
        vector = self._per_channel(other, channels, self._rank(source))
        if vector is None:
            return None
        ones, zeros = torch.ones_like(vector), torch.zeros_like(vector)
        match node.op_type:
            case "Mul":
                return vector, zeros
            case "Div":
                return 1 / vector, zeros
            case "Add":
                return ones, vector
        return ones, -vector

    def _normalisation(self, node: RuntimeNode, source: str) -> tuple[Tensor, Tensor] | None:
        if node.inputs[0] != source or len(node.inputs) != 5:
            return None
        channels = self._channels(self.nodes[self._makers[source]])
        if any(name not in self.constants or self.constants[name].shape != (channels,) for name in node.inputs[1:]):
            return None
        scale, shift, mean, variance = (self.constants[name].double() for name in node.inputs[1:5])
        factor = scale / torch.sqrt(variance + node.real("epsilon", 1e-5))
        return factor, shift - mean * factor

    def _channels(self, conv: RuntimeNode) -> int:
        filters = self.constants[conv.inputs[1]]
        if conv.op_type == "Conv":
            return int(filters.shape[0])
        return int(filters.shape[1]) * conv.integer("group", 1)

    def _rank(self, source: str) -> int:
        return self.constants[self.nodes[self._makers[source]].inputs[1]].ndim

    def _per_channel(self, name: str, channels: int, rank: int) -> Tensor | None:
        tensor = self.constants.get(name)
        if tensor is None or tensor.ndim > rank or not tensor.is_floating_point():
            return None
        shape = (1,) * (rank - tensor.ndim) + tuple(tensor.shape)
        if shape[0] != 1 or any(size != 1 for size in shape[2:]) or shape[1] not in (1, channels):
            return None
        return tensor.double().reshape(-1).expand(channels)

    def _scaled(self, conv: RuntimeNode, factor: Tensor, offset: Tensor, output: str) -> RuntimeNode:
        filters = self.constants[conv.inputs[1]]
        bias = self.constants[conv.inputs[2]] if len(conv.inputs) > 2 and conv.inputs[2] else None
        names = (f"{output}^filters", f"{output}^bias")
        ones = (1,) * (filters.ndim - 2)
        if conv.op_type == "Conv":
            by_channel = factor.reshape(-1, 1, *ones)
        else:  # filters [C,M/group,...]: the channels of a group lie along the second axis
            groups = conv.integer("group", 1)
            rows = factor.reshape(groups, 1, -1).expand(groups, filters.shape[0] // groups, -1)
            by_channel = rows.reshape(filters.shape[0], -1, *ones)
        self.constants[names[0]] = (filters.double() * by_channel).to(filters.dtype)
        moved = offset if bias is None else bias.double() * factor + offset
        self.constants[names[1]] = moved.to(filters.dtype).contiguous()
        return replace(conv, inputs=(conv.inputs[0], *names), outputs=(output,))
