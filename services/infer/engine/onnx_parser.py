"""ONNX files as RuntimeGraphs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

from services.infer.engine.graph import Attribute, RuntimeGraph, RuntimeNode, TensorInfo, checked
from services.infer.engine.onnx_tensors import DTYPES, dtype_of, read_tensor
from stagemesh.errors import ConfigError

OPSETS = range(9, 22)
MOST_BYTES = (1 << 31) - 1
STANDARD_DOMAINS = ("", "ai.onnx")


def parse_onnx(path: Path) -> RuntimeGraph:
    """The graph in the file at `path`; external data must lie in the same folder.

    Raises ConfigError: no ONNX file, an opset outside 9 to 21, a graph that can't be run as it is written.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ConfigError(f"{path}: expected an ONNX file below 2 GiB, found {size} bytes; use external data")
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    except (DecodeError, ValueError) as error:
        raise ConfigError(f"{path}: expected an ONNX file, found something that does not decode: {error}") from error
    return graph_of(model, path.parent, str(path))


def graph_of(model: ModelProto, folder: Path, where: str) -> RuntimeGraph:
    """The graph of a model in memory, whose external data lies in `folder`; raises as `parse_onnx` does."""
    if not model.HasField("graph"):
        raise ConfigError(f"{where}: expected an ONNX file with a graph, found none")
    opsets = _opsets(model, where)
    proto = model.graph
    if proto.sparse_initializer:
        raise ConfigError(f"{where}: sparse initializers are not supported; found {len(proto.sparse_initializer)}")
    constants = _initializers(proto, folder, where)
    nodes: list[RuntimeNode] = []
    for index, node in enumerate(proto.node):
        if node.op_type == "Constant" and node.domain in STANDARD_DOMAINS:
            _add_constant(node, constants, folder, where)
        else:
            nodes.append(_node(node, index, opsets, folder, where))
    # older files list their weights among the inputs, which a caller never passes
    initialised = {tensor.name for tensor in proto.initializer}
    inputs = tuple(_info(value, where) for value in proto.input if value.name not in initialised)
    outputs = tuple(_info(value, where) for value in proto.output)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return checked(RuntimeGraph(where, inputs, outputs, nodes, constants, metadata), where)


def _opsets(model: ModelProto, where: str) -> dict[str, int]:
    opsets = {"" if entry.domain in STANDARD_DOMAINS else entry.domain: entry.version for entry in model.opset_import}
    version = opsets.get("")
    if version is None or version not in OPSETS:
        raise ConfigError(f"{where}: expected an opset of {OPSETS[0]} to {OPSETS[-1]}, found {version or 'none'}")
    return opsets


def _initializers(proto: GraphProto, folder: Path, where: str) -> dict[str, torch.Tensor]:
    constants: dict[str, torch.Tensor] = {}
    for tensor in proto.initializer:
        _keep(tensor.name, read_tensor(tensor, folder, where), constants, where)
    return constants


def _keep(name: str, tensor: torch.Tensor, constants: dict[str, torch.Tensor], where: str) -> None:
    if name in constants:
        raise ConfigError(f"{where}: expected each tensor to be made once, found made twice: '{name}'")
    constants[name] = tensor


def _add_constant(node: NodeProto, constants: dict[str, torch.Tensor], folder: Path, where: str) -> None:
    what = f"{where}: node '{node.name}' (Constant)"
    if len(node.attribute) != 1 or len(node.output) != 1:
        found = f"{len(node.attribute)} and {len(node.output)}"
        raise ConfigError(f"{what}: expected one attribute and one output, found {found}")
    attribute = node.attribute[0]
    value = _attribute(attribute, folder, what)
    if isinstance(value, (int, float, tuple)) and not (isinstance(value, tuple) and _has_text(value)):
        floats = attribute.name.startswith("value_float")
        value = torch.tensor(value, dtype=torch.float32 if floats else torch.int64)
    if not isinstance(value, torch.Tensor):
        raise ConfigError(f"{what}: expected numbers, found attribute '{attribute.name}'")
    _keep(node.output[0], value, constants, where)


def _has_text(values: Iterable[object]) -> bool:
    return any(isinstance(value, str) for value in values)


def _node(proto: NodeProto, index: int, opsets: dict[str, int], folder: Path, where: str) -> RuntimeNode:
    domain = "" if proto.domain in STANDARD_DOMAINS else proto.domain
    name = proto.name or next(filter(None, proto.output), f"#{index}")
    what = f"{where}: node '{name}' ({proto.op_type})"
    attributes = {entry.name: _attribute(entry, folder, what) for entry in proto.attribute}
    return RuntimeNode(
        name, proto.op_type, tuple(proto.input), tuple(proto.output), attributes, domain, opsets.get(domain, 1)
    )


def _attribute(proto: AttributeProto, folder: Path, what: str) -> Attribute:
    match proto.type:
        case AttributeProto.INT:
            return proto.i
        case AttributeProto.FLOAT:
            return proto.f
        case AttributeProto.STRING:
            return proto.s.decode(errors="replace")
        case AttributeProto.INTS:
            return tuple(proto.ints)
        case AttributeProto.FLOATS:
            return tuple(proto.floats)
        case AttributeProto.STRINGS:
            return tuple(text.decode(errors="replace") for text in proto.strings)
        case AttributeProto.TENSOR:
            return read_tensor(proto.t, folder, what)
        case kind:
            # a subgraph: its operator is unknown here, and named when operators are looked up
            return f"<{AttributeProto.AttributeType.Name(kind)}>"


def _info(proto: ValueInfoProto, where: str) -> TensorInfo:
    what = f"{where}: '{proto.name}'"
    kind = proto.type.WhichOneof("value")
    if kind not in ("tensor_type", None):
        raise ConfigError(f"{what}: expected a tensor, found a {kind.removesuffix('_type')}")
    declared = proto.type.tensor_type
    dtype = dtype_of(declared.elem_type, what) if declared.elem_type else None
    if not declared.HasField("shape"):
        return TensorInfo(proto.name, dtype)
    dims = [size.dim_value if size.HasField("dim_value") else size.dim_param or None for size in declared.shape.dim]
    # exporters write 0 or -1 where they mean a dimension of any size
    return TensorInfo(proto.name, dtype, tuple(None if isinstance(size, int) and size < 1 else size for size in dims))


__all__ = ["DTYPES", "OPSETS", "graph_of", "parse_onnx"]
