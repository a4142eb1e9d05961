"""From a model folder to a torch module: a state dict with its code, a graph file, or an exported program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from services.infer.architecture import build_module, load_state
from services.infer.engine.exported import load_exported
from services.infer.engine.graph import RuntimeGraph
from services.infer.engine.module import GraphModule
from services.infer.engine.operators import standard_registry
from services.infer.engine.optimise import optimise
from services.infer.engine.parsers import parse_model
from services.infer.table import InferTable
from stagemesh.errors import ConfigError
from stagemesh.repository import ModelFolder
from stagemesh.sources import file_digest, resolve

RUNTIME_KEYS = ("backend", "precision")


@dataclass(frozen=True, slots=True)
class NetworkSource:
    """A network as its file gives it, on the CPU.

    `outputs` names what it gives, in order, where its file says so. `digest` is the SHA-256 of all that shapes it:
    files, the options of its table, and code, this service's own too: a parser that changed makes other engines.
    `graph` is there where a parser of ours read it; `is_exported` tells a program that torch.export made.
    """

    module: nn.Module
    digest: str
    outputs: tuple[str, ...] | None = None
    graph: RuntimeGraph | None = None
    is_exported: bool = False


def read_source(options: InferTable, folder: ModelFolder, cache: Path, where: str) -> NetworkSource:
    """Fetch and read the network of `options`.

    Raises ConfigError: a source, checksum or file that is wrong, code that fails, weights that don't fit.
    """
    path = resolve(options.source, options.sha256, folder.path, cache)
    files = [path, *(resolve(name, sha256, folder.path, cache) for name, sha256 in options.files.items())]
    if not options.holds_graph:
        module = build_module(options.arch, folder.path, where)
        load_state(module, path, where)
        code = sorted(folder.path.rglob("*.py"))
        return NetworkSource(module.eval(), _digest(options, [*files, *code]))
    digest = _digest(options, files)
    if path.suffix == ".pt2":
        return NetworkSource(load_exported(path), digest, is_exported=True)
    graph = parse_model(path)
    if len(graph.inputs) != 1:
        names = ", ".join(repr(info.name) for info in graph.inputs)
        raise ConfigError(f"{path.name}: expected one input, an image, found {len(graph.inputs)}: {names}")
    registry = standard_registry()
    registry.check(graph)
    graph = optimise(graph, registry)
    module = GraphModule(graph, registry)
    return NetworkSource(module.eval(), digest, tuple(info.name for info in graph.outputs), graph)


def choose_outputs(wanted: Sequence[str] | Mapping[str, str], found: tuple[str, ...] | None) -> tuple[int, ...] | None:
    """The positions, in what the network gives, of the outputs that `wanted` names; None for all in order.

    Raises ConfigError: a table for a network whose outputs have no names, a name it does not give.
    """
    if not isinstance(wanted, Mapping):
        return None
    if found is None:
        raise ConfigError("key 'outputs': expected a list, since the outputs of this network have no names")
    for name, own in wanted.items():
        if own not in found:
            raise ConfigError(f"key 'outputs': '{name}': expected one of {', '.join(found)}, found {own!r}")
    return tuple(found.index(own) for own in wanted.values())


def _digest(options: InferTable, files: Sequence[Path]) -> str:
    shaping = {key: value for key, value in asdict(options).items() if key not in RUNTIME_KEYS}
    own = sorted(Path(__file__).parent.rglob("*.py"))
    content = {"options": shaping, "files": [[path.name, file_digest(path)] for path in (*files, *own)]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
