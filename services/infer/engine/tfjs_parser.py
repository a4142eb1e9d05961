"""TensorFlow.js graph models as RuntimeGraphs, each operation lowered to those of the standard domain."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import torch

from services.infer.engine import lower_arrays, lower_layers, lower_math
from services.infer.engine.graph import Attribute, RuntimeGraph, RuntimeNode, TensorInfo, checked, names_of
from services.infer.engine.operators import standard_registry
from services.infer.engine.tfjs_node import SOURCES, TfNode
from services.infer.engine.tfjs_signature import graph_inputs, graph_outputs
from services.infer.engine.tfjs_weights import field, read_weights
from services.infer.engine.writer import GraphWriter
from stagemesh.errors import ConfigError

DOMAIN = "tensorflow"
MOST_JSON_BYTES = 1 << 28
LOWERINGS = lower_math.lowerings.by_op | lower_arrays.lowerings.by_op | lower_layers.lowerings.by_op


def parse_tfjs(path: Path) -> RuntimeGraph:
    """The graph of the model.json at `path`; its weight files must lie in the same folder.

    An operation without a lowering stays as a node of domain `tensorflow`, version 1, which a plug-in may
    register an operator for. Tensors are named as in the graph, the first output of a node like the node.

    Raises ConfigError: no graph model, weights that are missing or of another size, a graph that can't be run.
    """
    where = str(path)
    model = _read_json(path)
    if model.get("format") not in ("graph-model", None) or "modelTopology" not in model:
        raise ConfigError(f"{where}: expected a TensorFlow.js graph-model, found format {model.get('format')!r}")
    entries = field(field(model, "modelTopology", dict, where), "node", list, f"{where}: modelTopology")
    nodes = [TfNode.read(entry, where) for entry in entries]
    twice = [repr(name) for name, count in Counter(node.name for node in nodes).items() if count > 1]
    if twice:
        raise ConfigError(f"{where}: expected nodes of different names, found twice: {names_of(twice)}")
    weights = read_weights(field(model, "weightsManifest", list, where), path.parent, where)
    inputs, outputs = graph_inputs(model, nodes, where), graph_outputs(model, nodes, where)
    writer = _lowered(_in_order(nodes, outputs, where), weights, where)
    names = {name for node in writer.nodes for name in node.inputs} | {info.name for info in outputs}
    constants = {name: tensor for name, tensor in writer.constants.items() if name in names}
    metadata = {key: str(model[key]) for key in ("generatedBy", "convertedBy") if key in model}
    return checked(RuntimeGraph(where, inputs, outputs, writer.nodes, constants, metadata), where)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise ConfigError(f"{path}: expected at most {MOST_JSON_BYTES} bytes, found {path.stat().st_size}")
        model = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected JSON: {error}") from error
    if not isinstance(model, dict):
        raise ConfigError(f"{path}: expected a JSON object, found a {type(model).__name__}")
    return model


def _lowered(nodes: Sequence[TfNode], weights: Mapping[str, torch.Tensor], where: str) -> GraphWriter:
    writer = GraphWriter(weights, standard_registry())
    made = Counter(name for node in nodes for name in node.inputs)
    for node in nodes:
        if node.op in SOURCES:
            _check_source(node, weights, where)
            continue
        writer.scope = node.name
        lower = LOWERINGS.get(node.op)
        if lower is None:
            writer.nodes.append(_foreign(node, made))
            continue
        try:
            lower(node, writer)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"{where}: {node} has attributes or inputs that don't fit: {error}") from error
    return writer


def _check_source(node: TfNode, weights: Mapping[str, torch.Tensor], where: str) -> None:
    if node.op == "Const" and node.name not in weights:
        raise ConfigError(f"{where}: {node}: expected its values in the weightsManifest, found none")


def _foreign(node: TfNode, uses: Counter[str]) -> RuntimeNode:
    count = 1
    while f"{node.name}:{count}" in uses:
        count += 1
    attributes = {key: value for key in node.attributes if (value := _plain(node, key)) is not None}
    outputs = tuple(lower_arrays.outputs_of(node, count))
    return RuntimeNode(node.name, node.op, node.inputs, outputs, attributes, DOMAIN, 1)


def _plain(node: TfNode, key: str) -> Attribute | None:
    attribute = node.attributes[key]
    if not isinstance(attribute, Mapping):
        return None
    if "s" in attribute:
        return node.text(key, "")
    if "i" in attribute:
        return node.integer(key, 0)
    if "f" in attribute:
        return node.real(key, 0.0)
    if "b" in attribute:
        return int(node.flag(key))
    if "list" in attribute:
        return tuple(node.integers(key)) or tuple(node.texts(key))
    return None


def _in_order(nodes: Sequence[TfNode], outputs: Sequence[TensorInfo], where: str) -> list[TfNode]:
    """The nodes the outputs need, each after those it reads: constants must be known when a node is lowered."""
    by_name = {node.name: node for node in nodes}
    needed: dict[str, list[str]] = {}
    waiting = [info.name.partition(":")[0] for info in outputs]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        if name not in by_name:
            raise ConfigError(f"{where}: tensor '{name}' is read, and nothing makes it")
        needed[name] = [source.partition(":")[0] for source in by_name[name].inputs]
        waiting += needed[name]
    try:
        return [by_name[name] for name in TopologicalSorter(needed).static_order()]
    except CycleError as error:
        cycle = [by_name[name] for name in error.args[1]]
        raise ConfigError(f"{where}: the graph has a cycle: {names_of(cycle)}") from error
