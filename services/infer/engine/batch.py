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

from services.infer.engine.context import Array
from services.infer.engine.graph import RuntimeGraph, RuntimeNode, TensorInfo
from services.infer.engine.module import GraphModule
from services.infer.engine.profile import random_tensor
from services.infer.engine.registry import OperatorRegistry
from services.infer.engine.shapes import infer_shapes
from services.infer.engine.tactics import deviation
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
    """Whether a batch of two gives what each of the two gives alone; a batch that has the wrong shape is not run."""
    pairs = [(2, *shape[1:]) for shape in shapes]
    generator = torch.Generator().manual_seed(SEED)
    inputs = [
        random_tensor(pair, info.dtype or torch.float32, generator)
        for info, pair in zip(graph.inputs, pairs, strict=True)
    ]
    try:
        infos = infer_shapes(graph, registry, pairs)
        if not all(_is_pair(infos.get(info.name)) for info in graph.outputs):
            return False
        module = GraphModule(graph, registry).eval()
        with torch.inference_mode():
            together = _arrays(module(*inputs))
            alone = [_arrays(module(*(value[row : row + 1] for value in inputs))) for row in (0, 1)]
    except StagemeshError as error:
        log.debug("%s: a batch of 2 can't be computed: %s", graph.name, error)
        return False
    return all(
        deviation(single, [whole[row : row + 1] for whole in together]) <= TOLERANCE for row, single in enumerate(alone)
    )


def _is_pair(info: TensorInfo | None) -> bool:
    """Whether a tensor may hold two samples, as far as its shape is known ahead."""
    return info is None or info.shape is None or info.shape[:1] == (2,)


def _arrays(outputs: Sequence[Tensor]) -> list[Array]:
    return [output.double().numpy() for output in outputs]
