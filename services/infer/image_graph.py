"""A graph with its normalisation as nodes of its own, so that what runs ONNX takes the uint8 image of the wire."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from services.infer.engine.graph import Attribute, RuntimeGraph, RuntimeNode, TensorInfo
from services.infer.engine.graph_to_onnx import CODES, graph_to_onnx
from services.infer.engine.program import BackendUnavailable
from services.infer.engine.writer import OPSET
from services.infer.table import InferTable
from stagemesh.errors import ConfigError

PREFIX = "^image."
REDUCE_AXES_ARE_INPUT = 18


def write_image_graph(graph: RuntimeGraph, table: InferTable, chosen: Sequence[int] | None, path: Path) -> None:
    """Write `graph` as ONNX to `path`: from `image` uint8 [N,H,W,3] to its outputs at `chosen`, in float32.

    Raises BackendUnavailable where ONNX can't express it.
    """
    try:
        model = graph_to_onnx(_with_image_input(graph, table, chosen))
    except ConfigError as error:
        raise BackendUnavailable(f"no ONNX: {error}") from error
    path.write_bytes(model.SerializeToString())


def _with_image_input(graph: RuntimeGraph, table: InferTable, chosen: Sequence[int] | None) -> RuntimeGraph:
    chain = _Chain(PREFIX, graph.nodes[0].version if graph.nodes else OPSET)
    _normalise(chain, table)
    chain.nodes[-1].outputs = (graph.inputs[0].name,)
    outputs = [graph.outputs[index] for index in chosen] if chosen is not None else list(graph.outputs)
    casts = _Chain("^output.", chain.version)
    named = []
    for info in outputs:
        casts.tensor = info.name
        casts.add("Cast", to=CODES[torch.float32])
        named.append(TensorInfo(casts.tensor, torch.float32, info.shape))
    return RuntimeGraph(
        name=graph.name,
        inputs=(TensorInfo("image", torch.uint8, (None, None, None, 3)),),
        outputs=tuple(named),
        nodes=[*chain.nodes, *graph.nodes, *casts.nodes],
        constants={**graph.constants, **chain.constants},
    )


class _Chain:
    """Nodes one after the other; `tensor` is what the last one made."""

    def __init__(self, prefix: str, version: int) -> None:
        self.version = version
        self.tensor = "image"
        self.nodes: list[RuntimeNode] = []
        self.constants: dict[str, torch.Tensor] = {}
        self._prefix = prefix

    def add(self, op_type: str, *constants: torch.Tensor, swap: bool = False, **attributes: Attribute) -> None:
        """A node that reads the last tensor and `constants`; with `swap` these come first."""
        names = [f"{self._prefix}{len(self.constants) + i}.constant" for i in range(len(constants))]
        self.constants.update(zip(names, constants, strict=True))
        inputs = [*names, self.tensor] if swap else [self.tensor, *names]
        self.join(op_type, inputs, **attributes)

    def join(self, op_type: str, inputs: Sequence[str], **attributes: Attribute) -> None:
        """A node that reads `inputs`."""
        self.tensor = f"{self._prefix}{len(self.nodes)}"
        name = f"{self.tensor}.{op_type}"
        self.nodes.append(RuntimeNode(name, op_type, tuple(inputs), (self.tensor,), attributes, version=self.version))


def _normalise(chain: _Chain, table: InferTable) -> None:
    """The nodes that do what `Normaliser` does."""
    if table.channels == "BGR":
        chain.add("Gather", torch.tensor([2, 1, 0]), axis=3)
    chain.add("Cast", to=CODES[torch.int32 if table.dtype == "int32" else torch.float32])
    if table.scale == "max":
        _scale_to_largest(chain)
    if any(table.mean):
        chain.add("Sub", torch.tensor(table.mean))
    if set(table.std) != {1.0}:
        chain.add("Div", torch.tensor(table.std))
    if table.layout == "NCHW":
        chain.add("Transpose", perm=(0, 3, 1, 2))


def _scale_to_largest(chain: _Chain) -> None:
    values = chain.tensor
    if chain.version >= REDUCE_AXES_ARE_INPUT:
        chain.add("ReduceMax", torch.tensor([1, 2, 3]), keepdims=1)
    else:
        chain.add("ReduceMax", axes=(1, 2, 3), keepdims=1)
    chain.add("Max", torch.tensor(1.0))
    chain.add("Div", torch.tensor(255.0), swap=True)
    chain.join("Mul", [values, chain.tensor])
