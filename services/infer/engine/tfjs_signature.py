"""Inputs and outputs of a TensorFlow.js graph: what its signature says, or what its nodes tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.infer.engine.graph import TensorInfo, names_of
from services.infer.engine.tfjs_node import SOURCES, TfNode, dtype_of
from services.infer.engine.tfjs_weights import field
from stagemesh.errors import ConfigError


def graph_inputs(model: Mapping[str, Any], nodes: Sequence[TfNode], where: str) -> tuple[TensorInfo, ...]:
    """The placeholders, those of the signature first. Raises ConfigError for a signature that names others."""
    holders = [node for node in nodes if node.op == "Placeholder"]
    order = [info.name for info in _signature(model, "inputs", where)]
    infos = {node.name: TensorInfo(node.name, node.dtype("dtype"), _declared(node)) for node in holders}
    unknown = [repr(name) for name in order if name not in infos]
    if unknown:
        raise ConfigError(f"{where}: signature: expected inputs that are placeholders, found {names_of(unknown)}")
    return tuple(infos[name] for name in [*order, *(name for name in infos if name not in order)])


def _declared(node: TfNode) -> tuple[int | None, ...] | None:
    attribute = node.attributes.get("shape", {})
    shape = attribute.get("shape", {}) if isinstance(attribute, Mapping) else {}
    return _dims(shape, str(node))


def _dims(shape: Any, what: str) -> tuple[int | None, ...] | None:
    if not isinstance(shape, Mapping) or shape.get("unknownRank"):
        return None
    try:
        sizes = [int(dim.get("size", 0)) for dim in shape.get("dim", [])]
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{what}: expected a shape of integers, found {shape!r}") from error
    return tuple(size if size > 0 else None for size in sizes)


def graph_outputs(model: Mapping[str, Any], nodes: Sequence[TfNode], where: str) -> tuple[TensorInfo, ...]:
    """The outputs of the signature, or without one those of the nodes that no other node reads."""
    declared = _signature(model, "outputs", where)
    if declared:
        return tuple(declared)
    read = {name.partition(":")[0] for node in nodes for name in node.inputs}
    last = [node for node in nodes if node.name not in read and node.op not in SOURCES]
    return tuple(TensorInfo(node.name, None) for node in last)


def _signature(model: Mapping[str, Any], side: str, where: str) -> list[TensorInfo]:
    what = f"{where}: signature"
    signature = model.get("signature") or {}
    entries = field({side: {}, **signature} if isinstance(signature, Mapping) else signature, side, dict, what)
    infos = []
    for key, entry in entries.items():
        # a signature may leave the tensor's own name out, where it is the key
        name = field({"name": key, **entry} if isinstance(entry, Mapping) else entry, "name", str, what)
        dtype = dtype_of(entry["dtype"], what) if "dtype" in entry else None
        infos.append(TensorInfo(name.removesuffix(":0"), dtype, _dims(entry.get("tensorShape"), what)))
    return infos
