"""From a model folder to a torch module: a state dict with its code, a graph file, or an exported program."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from services.infer.architecture import build_module, load_state
from services.infer.engine.batch import allow_batches
from services.infer.engine.exported import load_exported
from services.infer.engine.graph import RuntimeGraph
from services.infer.engine.module import GraphModule
from services.infer.engine.operators import registry_of, standard_registry
from services.infer.engine.optimise import optimise
from services.infer.engine.parsers import parse_model
from services.infer.engine.registry import OperatorRegistry
from services.infer.engine.shapes import infer_shapes
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
    `is_exported` tells a program that torch.export made. Where a parser of ours read a graph, `make_graph` gives it
    as it is to be run. Both functions make their thing when it is needed, which it is not where an engine was built
    before; they raise ConfigError.
    """

    make_module: Callable[[], nn.Module]
    digest: str
    outputs: tuple[str, ...] | None = None
    make_graph: Callable[[], RuntimeGraph] | None = None
    is_exported: bool = False


def read_source(
    options: InferTable, folder: ModelFolder, cache: Path, max_batch: int, sizes: Sequence[tuple[int, int]]
) -> NetworkSource:
    """Fetch and read the network of `options`, which is to take up to `max_batch` images, of `sizes` among others.

    Raises ConfigError: a source, checksum or file that is wrong, code that fails, weights that don't fit.
    """
    path = resolve(options.source, options.sha256, folder.path, cache)
    files = [path, *(resolve(name, sha256, folder.path, cache) for name, sha256 in options.files.items())]
    if options.arch or options.operators:
        files += sorted(folder.path.rglob("*.py"))
    digest = _digest(options, files)
    if not options.holds_graph:
        where = folder.where("infer")
        module = build_module(options.arch, folder.path, where)
        load_state(module, path, where)
        return NetworkSource(module.eval, digest)
    if path.suffix == ".pt2":
        program = load_exported(path)
        return NetworkSource(lambda: program, digest, is_exported=True)
    return _graph_source(options, folder, path, digest, max_batch, sizes)


def _graph_source(
    options: InferTable,
    folder: ModelFolder,
    path: Path,
    digest: str,
    max_batch: int,
    sizes: Sequence[tuple[int, int]],
) -> NetworkSource:
    graph = parse_model(path)
    if len(graph.inputs) != 1:
        names = ", ".join(repr(info.name) for info in graph.inputs)
        raise ConfigError(f"{path.name}: expected one input, an image, found {len(graph.inputs)}: {names}")
    registry = _registry(options, folder)
    registry.check(graph)
    shapes = [(1, 3, *size) if options.layout == "NCHW" else (1, *size, 3) for size in sizes]
    make_graph = functools.cache(lambda: _ready_graph(graph, registry, shapes, max_batch))
    outputs = tuple(info.name for info in graph.outputs)
    return NetworkSource(lambda: GraphModule(make_graph(), registry).eval(), digest, outputs, make_graph)


def _registry(options: InferTable, folder: ModelFolder) -> OperatorRegistry:
    if not options.operators:
        return standard_registry()
    return registry_of(options.operators, folder.path, f"{folder.where('infer')}: key 'operators'")


def _ready_graph(
    graph: RuntimeGraph, registry: OperatorRegistry, shapes: Sequence[Sequence[int]], max_batch: int
) -> RuntimeGraph:
    """The graph as it is to be run, once nothing in it is found to be too large for the memory."""
    graph = optimise(graph, registry)
    for shape in shapes:
        infer_shapes(graph, registry, [shape])
    batched = allow_batches(graph, registry, [shapes[0]]) if max_batch > 1 else graph
    if batched is None:
        raise ConfigError(
            f"{graph.name}: a sample in a batch comes out unlike one alone; "
            f"expected max_batch = 1 for this graph, found {max_batch}"
        )
    return batched


def choose_outputs(wanted: Sequence[str] | Mapping[str, str], found: tuple[str, ...] | None) -> tuple[int, ...] | None:
    """The positions, in what the network gives, of the outputs that `wanted` names; None for all in order.

    Raises ConfigError: a table for a network whose outputs have no names, a name it does not give, another number.
    """
    if not isinstance(wanted, Mapping):
        if found is not None and len(found) != len(wanted):
            raise ConfigError(f"expected {len(wanted)} outputs of the network ({', '.join(wanted)}), got {len(found)}")
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
