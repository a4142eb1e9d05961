"""TensorFlow.js graph models written by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.engine.single_op import Array

TYPES = {"float32": "DT_FLOAT", "int32": "DT_INT32", "bool": "DT_BOOL"}


def node(name: str, op: str, inputs: Sequence[str] = (), **attributes: Any) -> dict[str, Any]:
    """A node of a topology; attribute values are Python's, types are named by text that starts with DT_."""
    return {"name": name, "op": op, "input": list(inputs), "attr": {k: _attribute(v) for k, v in attributes.items()}}


def _attribute(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"b": value}
        case int():
            return {"i": str(value)}
        case float():
            return {"f": value}
        case str() if value.startswith("DT_"):
            return {"type": value}
        case str():
            return {"s": _base64(value)}
        case list() if value and isinstance(value[0], str):
            return {"list": {"s": [_base64(item) for item in value]}}
    return {"list": {"i": [str(item) for item in value]}}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def placeholder(name: str, array: Array) -> dict[str, Any]:
    """An input of the rank and type of `array`."""
    found = node(name, "Placeholder", dtype=TYPES[str(array.dtype)])
    found["attr"]["shape"] = {"shape": {"dim": [{"size": "-1"}] * array.ndim}}
    return found


def write_model(
    folder: Path,
    nodes: Sequence[Mapping[str, Any]],
    weights: Mapping[str, Array],
    outputs: Sequence[str],
    **changes: Any,
) -> Path:
    """A model.json with one shard; `changes` replace keys of the JSON."""
    entries = [{"name": name, "shape": list(value.shape), "dtype": str(value.dtype)} for name, value in weights.items()]
    (folder / "shard1.bin").write_bytes(b"".join(np.ascontiguousarray(value).tobytes() for value in weights.values()))
    constants = [node(name, "Const", dtype=TYPES[str(value.dtype)]) for name, value in weights.items()]
    model = {
        "format": "graph-model",
        "modelTopology": {"node": [*constants, *nodes]},
        "signature": {"outputs": {name: {"name": name} for name in outputs}},
        "weightsManifest": [{"paths": ["shard1.bin"], "weights": entries}],
    } | changes
    path = folder / "model.json"
    path.write_text(json.dumps(model))
    return path
