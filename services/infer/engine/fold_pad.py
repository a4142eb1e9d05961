"""Zeros padded around an image, made part of the convolution that reads it: one copy less."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from services.infer.engine.graph import RuntimeGraph, RuntimeNode


def fold_pads(graph: RuntimeGraph) -> RuntimeGraph:
    """A graph where a convolution pads by itself what a Pad node padded for it, where the two add up."""
    makers, uses = graph.producers(), graph.uses()
    nodes = []
    for node in graph.nodes:
        pad = makers.get(node.inputs[0]) if node.op_type == "Conv" and not node.domain and node.inputs else None
        more = None if pad is None or uses[node.inputs[0]] > 1 else _spatial_zeros(pad, graph.constants)
        own = _own_pads(node, len(more)) if more else None
        if pad is None or more is None or own is None:
            nodes.append(node)
            continue
        pads = tuple(a + b for a, b in zip(own, more, strict=True))
        attributes = {**node.attributes, "pads": pads, "auto_pad": "NOTSET"}
        nodes.append(replace(node, inputs=(pad.inputs[0], *node.inputs[1:]), attributes=attributes))
    return graph.holding(nodes)


def _own_pads(conv: RuntimeNode, count: int) -> tuple[int, ...] | None:
    mode = conv.text("auto_pad", "NOTSET")
    pads = (0,) * count if mode == "VALID" else conv.integers("pads") or (0,) * count
    return pads if mode in ("VALID", "NOTSET") and len(pads) == count else None


def _spatial_zeros(pad: RuntimeNode, constants: dict[str, Tensor]) -> tuple[int, ...] | None:
    """What a Pad node adds to the spatial axes, before and then after; None if it adds anything but zeros there."""
    if pad.op_type != "Pad" or pad.domain or pad.text("mode", "constant") != "constant":
        return None
    if pad.version < 11:
        value, sides = pad.real("value", 0.0), list(pad.integers("pads") or ())
    else:
        if len(pad.inputs) not in (2, 3) or any(name and name not in constants for name in pad.inputs[1:]):
            return None
        fill = constants[pad.inputs[2]] if len(pad.inputs) > 2 and pad.inputs[2] else torch.zeros(1)
        value = float(fill.abs().sum())
        sides = [int(side) for side in constants[pad.inputs[1]].reshape(-1).tolist()] if pad.inputs[1] else []
    rank = len(sides) // 2
    outer = [*sides[:2], *sides[rank : rank + 2]]
    if value != 0 or rank < 3 or len(sides) % 2 or any(outer) or min(sides) < 0:
        return None
    return (*sides[2:rank], *sides[rank + 2 :])
