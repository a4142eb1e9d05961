"""Batches for graphs that were written for one sample: a size of 1 becomes the size of the batch.

An exporter that knew only one sample writes [1, 80, -1] where it means "keep the batch". With a larger batch such a
graph gives nonsense without an error, so what is rewritten here counts only once it was run and compared.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from services.infer.engine.graph import RuntimeGraph, RuntimeNode, TensorInfo
from services.infer.engine.module import GraphModule
from services.infer.engine.registry import OperatorRegistry
from services.infer.engine.shapes import infer_shapes
from stagemesh.errors import StagemeshError

TOLERANCE = 1e-4
SEED = 0

log = logging.getLogger(__name__)


def allow_batches(
    graph: RuntimeGraph, registry: OperatorRegistry, shapes: Sequence[Sequence[int]]
) -> RuntimeGraph | None:
    """A graph that computes each sample of a batch alone; `graph` itself where it does so already.

    `shapes` are those of the inputs, batch of 1 first. The graph is run on two random samples, together and one by
    one, and None is returned where the outputs differ by more than rounding, or can't be computed.
    """
    if _keeps_samples_apart(graph, registry, shapes):
        return graph
    try:
        relaxed = _relaxed(graph, infer_shapes(graph, registry, shapes))
    except StagemeshError as error:
        log.info("%s: takes one sample at a time: %s", graph.name, error)
        return None
    return relaxed if _keeps_samples_apart(relaxed, registry, shapes) else None


def _relaxed(graph: RuntimeGraph, infos: dict[str, TensorInfo]) -> RuntimeGraph:
    constants, nodes = dict(graph.constants), []
    for node in graph.nodes:
        shape = _single_sample_shape(node, graph.constants, infos)
        if shape is None:
            nodes.append(node)
            continue
        name = f"{node.outputs[0]}^shape"
        constants[name] = torch.tensor([0, *shape[1:]])
        nodes.append(replace(node, inputs=(node.inputs[0], name), attributes={**node.attributes, "allowzero": 0}))
    inputs = tuple(replace(info, shape=(None, *info.shape[1:]) if info.shape else None) for info in graph.inputs)
    outputs = tuple(replace(info, shape=(None, *info.shape[1:]) if info.shape else None) for info in graph.outputs)
    return replace(graph, inputs=inputs, outputs=outputs, nodes=nodes, constants=constants)


def _single_sample_shape(
    node: RuntimeNode, constants: dict[str, Tensor], infos: dict[str, TensorInfo]
) -> list[int] | None:
    """The constant shape of a Reshape that keeps a leading 1 as it is, None for any other node."""
    if node.op_type != "Reshape" or node.domain or node.inputs[1] not in constants:
        return None
    before = infos[node.inputs[0]].shape if node.inputs[0] in infos else None
    shape = [int(size) for size in constants[node.inputs[1]].tolist()]
    starts_with_one = bool(before) and before is not None and before[0] == 1 and shape[:1] == [1]
    return shape if starts_with_one and 0 not in shape else None


def _keeps_samples_apart(graph: RuntimeGraph, registry: OperatorRegistry, shapes: Sequence[Sequence[int]]) -> bool:
    module = GraphModule(graph, registry).eval()
    generator = torch.Generator().manual_seed(SEED)
    inputs = [
        _random((2, *shape[1:]), info.dtype or torch.float32, generator)
        for info, shape in zip(graph.inputs, shapes, strict=True)
    ]
    try:
        with torch.inference_mode():
            together = module(*inputs)
            alone = [module(*(value[row : row + 1] for value in inputs)) for row in (0, 1)]
    except StagemeshError as error:
        log.debug("%s: a batch of 2 can't be computed: %s", graph.name, error)
        return False
    return all(
        first.ndim > 0 and _equal(whole, torch.cat([first, second]))
        for whole, first, second in zip(together, *alone, strict=True)
    )


def _random(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if dtype.is_floating_point:
        return torch.rand(shape, generator=generator).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 128, shape, generator=generator).to(dtype)


def _equal(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    found, wanted = found.to(torch.float64), wanted.to(torch.float64)
    return bool((found - wanted).abs().max() <= TOLERANCE * wanted.abs().max().clamp(min=1e-6)) if len(found) else True
