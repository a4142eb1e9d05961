"""From a model file to a RuntimeGraph, by the kind of file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.infer.engine.graph import RuntimeGraph
from services.infer.engine.onnx_parser import parse_onnx
from services.infer.engine.tfjs_parser import parse_tfjs
from stagemesh.errors import ConfigError

PARSERS: dict[str, Callable[[Path], RuntimeGraph]] = {".onnx": parse_onnx, ".json": parse_tfjs}


def parse_model(path: Path) -> RuntimeGraph:
    """The graph in an ONNX file (.onnx) or a TensorFlow.js graph model (model.json beside its weight files).

    Raises ConfigError: another suffix, a file that is broken, a graph that can't be run as it is written.
    """
    parser = PARSERS.get(path.suffix.lower())
    if parser is None:
        raise ConfigError(f"{path}: expected a model file ending in {' or '.join(PARSERS)}, found '{path.suffix}'")
    return parser(path)
