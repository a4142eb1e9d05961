"""RuntimeGraphs as ONNX models, so that other engines can run what our parsers read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from services.infer.engine.graph import ONNX_DOMAIN, Attribute, RuntimeGraph, RuntimeNode, TensorInfo, names_of
from services.infer.engine.onnx_tensors import DTYPES
from services.infer.engine.writer import OPSET
from stagemesh.errors import ConfigError

CODES = {dtype: code for code, dtype in DTYPES.items()}


def graph_to_onnx(graph: RuntimeGraph, inputs: Sequence[TensorInfo] | None = None) -> ModelProto:
    """An ONNX model that computes the same as `graph`.

    `inputs` declares the shapes of the inputs, in the graph's order; without it every dimension is dynamic,
    since files often declare wrong ones. Of the outputs the rank alone is declared, where it is known.

    Raises ConfigError: operators outside the standard domain, nodes of different opsets.
    """
    foreign = [node for node in graph.nodes if node.domain != ONNX_DOMAIN]
    if foreign:
        raise ConfigError(f"{graph.name}: ONNX has no operator for {names_of(foreign)}")
    versions = {node.version for node in graph.nodes} or {OPSET}
    if len(versions) > 1:
        raise ConfigError(f"{graph.name}: expected nodes of one opset, found {sorted(versions)}")
    proto = helper.make_graph(
        [_node(node, index) for index, node in enumerate(graph.nodes)],
        "stagemesh",
        [_value(info) for info in inputs or [_dynamic(info) for info in graph.inputs]],
        [_value(_dynamic(info)) for info in graph.outputs],
        [_tensor(tensor, name) for name, tensor in graph.constants.items()],
    )
    opsets = [helper.make_opsetid("", versions.pop())]
    return helper.make_model(proto, opset_imports=opsets, ir_version=8, producer_name="stagemesh")


def _node(node: RuntimeNode, index: int) -> NodeProto:
    # several nodes may stem from one of the source file, and share its name
    proto = helper.make_node(node.op_type, node.inputs, node.outputs, name=f"{node.name}#{index}")
    proto.attribute.extend(
        helper.make_attribute(name, _attribute(value)) for name, value in sorted(node.attributes.items())
    )
    return proto


def _attribute(value: Attribute) -> object:
    return _tensor(value, "") if isinstance(value, torch.Tensor) else value


def _tensor(tensor: torch.Tensor, name: str) -> TensorProto:
    if tensor.dtype not in CODES:
        raise ConfigError(f"tensor '{name}': ONNX has no element type for {tensor.dtype}")
    proto = TensorProto(name=name, data_type=CODES[tensor.dtype], dims=tensor.shape)
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    proto.raw_data = flat.view(torch.uint8).numpy().tobytes() if tensor.ndim or flat.numel() else b""
    return proto


def _dynamic(info: TensorInfo) -> TensorInfo:
    shape = info.shape
    return info if shape is None else TensorInfo(info.name, info.dtype, (None,) * len(shape))


def _value(info: TensorInfo) -> ValueInfoProto:
    shape = None if info.shape is None else [_dim(info.name, axis, size) for axis, size in enumerate(info.shape)]
    return helper.make_tensor_value_info(info.name, CODES[_known(info)], shape)


def _dim(name: str, axis: int, size: int | str | None) -> int | str:
    return f"{name}_{axis}" if size is None else size


def _known(info: TensorInfo) -> torch.dtype:
    if info.dtype is None:
        raise ConfigError(f"'{info.name}': expected a known element type, found none; infer shapes first")
    return info.dtype
