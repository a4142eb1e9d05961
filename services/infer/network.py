"""A network that is loaded and ready to run: an image batch in, named float32 outputs out."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format

from services.infer.architecture import describe_failure
from services.infer.engine.builder import BuilderConfig, EngineBuilder
from services.infer.engine.definition import NetworkDefinition, WriteOnnx
from services.infer.engine.eager import EagerProgram
from services.infer.engine.engine import Engine
from services.infer.engine.machine import resolve_dtype
from services.infer.engine.onnx_session import export_onnx
from services.infer.engine.profile import OptimizationProfile, ShapeRange
from services.infer.engine.program import AOTINDUCTOR, EAGER, ONNXRUNTIME
from services.infer.engine.store import EngineStore
from services.infer.engine.tactics import deviation
from services.infer.image_graph import write_image_graph
from services.infer.probe import INPUT, Sizes, compute, fold, noise, probe
from services.infer.source import NetworkSource, choose_outputs, read_source
from services.infer.table import InferTable
from services.infer.vision import VisionModule
from stagemesh.errors import ConfigError, InvalidInput, StageFailed
from stagemesh.oip.signature import Signature
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays
from stagemesh.repository import Batching, ModelFolder, parse_table

PROBE_SIZES = ((224, 224), (256, 288))
LARGEST_SIDE = 16_384
BEST_BATCH = 8
FOLD_TOLERANCE = 1e-4
PLATFORMS = {EAGER: "pytorch", AOTINDUCTOR: "pytorch_aotinductor", ONNXRUNTIME: "onnxruntime_onnx"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How an engine is made: the largest batch, whether AOTInductor may compile, who hears of slow steps."""

    max_batch: int = Batching().max_batch
    compiles: bool = False
    report: Callable[[str], None] = log.info


def load_network(
    folder: ModelFolder,
    table: Mapping[str, object],
    device: torch.device,
    cache: Path,
    build: BuildOptions | None = None,
) -> Network:
    """Make the network of `table`, the model's [infer] table without its batching keys.

    Fetches the weights where they are not in `cache` yet, runs the network once to learn its outputs, and takes the
    engine that `cache` holds for it, or chooses a backend.
    Raises ConfigError naming file and table: a bad key, source, checksum, arch or model file, a network that fails or
    gives another number of outputs than the table names, a backend that can't run it.
    """
    where = folder.where("infer")
    options = parse_table(InferTable, table, where)
    build = build or BuildOptions()
    sizes: Sizes = (options.size,) if options.size else PROBE_SIZES
    try:
        source = read_source(options, folder, cache, build.max_batch, sizes)
        return _Assembly(source, options, folder, device, sizes).network(cache, build)
    except (ConfigError, StageFailed) as error:
        text = str(error)
        raise ConfigError(text if text.startswith(where) else f"{where}: {text}") from error


class Network:
    """An engine with the names of its outputs; several threads may run it at once."""

    def __init__(self, engine: Engine, signature: Signature, folder: Path, warm_size: tuple[int, int]) -> None:
        """`folder` is where the network's code lies, `warm_size` the height and width of an image to warm up with."""
        self.engine = engine
        self.platform = "+".join(PLATFORMS[backend] for backend in engine.backend.split("+"))
        self._signature = signature
        self._names = tuple(spec.name for spec in signature.outputs)
        self._folder = folder
        self._warm_size = warm_size

    def signature(self) -> Signature:
        """Input `image` UINT8 [-1,H,W,3], RGB; the outputs of the table, FP32, batch first."""
        return self._signature

    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        """Compute the outputs of one batch; no request parameter has a meaning here.

        Raises InvalidInput for an image without pixels, StageFailed where the network raises or gives
        another number of outputs or samples than it should.
        """
        image = inputs[INPUT]
        if 0 in image.shape:
            raise InvalidInput(f"input '{INPUT}': expected dimensions above 0, got {list(image.shape)}")
        return compute(self.engine, self._names, self._folder, image)

    def warm_up(self, batch_sizes: Iterable[int]) -> None:
        """Run a grey image at each batch size, so that no request pays for what is done the first time.

        Raises ConfigError where the network can't run one of them.
        """
        for batch in batch_sizes:
            try:
                self.run({INPUT: np.full((batch, *self._warm_size, 3), 127, np.uint8)}, {})
            except StageFailed as error:
                raise ConfigError(f"{self._folder.name}: warm-up with a batch of {batch}: {error}") from error


class _Assembly:
    """The steps from a source to a network on a device."""

    def __init__(
        self, source: NetworkSource, options: InferTable, folder: ModelFolder, device: torch.device, sizes: Sizes
    ) -> None:
        self._source = source
        self._options = options
        self._folder = folder
        self._device = device
        self._precision = resolve_dtype(options.precision, device)
        self._chosen = choose_outputs(options.outputs, source.outputs)
        self._names = tuple(options.outputs)
        self._sizes = sizes

    def network(self, cache: Path, build: BuildOptions) -> Network:
        profile = _profile(self._options, build.max_batch)
        make_module = functools.cache(lambda: self._checked_module(profile))
        definition = NetworkDefinition(
            name=self._folder.name,
            source=self._source.digest,
            make_module=make_module,
            outputs=self._names,
            write_onnx=self._onnx_writer(make_module),
        )
        config = BuilderConfig(
            device=self._device,
            profile=profile,
            dtype=self._options.precision,
            backend=self._options.backend,
            compiles=build.compiles,
            threads=torch.get_num_threads(),
        )
        engine = EngineBuilder(EngineStore(cache), build.report).build(definition, config)
        signature = probe(engine, self._names, self._folder.path, self._sizes)
        return Network(engine, signature, self._folder.path, self._sizes[0])

    def _checked_module(self, profile: OptimizationProfile) -> VisionModule:
        """The module, as fast as torch runs it; one that is the user's own code is found to run."""
        module = self._module(self._source.make_module())
        if self._source.make_graph is not None:
            return module
        probe(self._eager(module, profile), self._names, self._folder.path, self._sizes)
        module = self._folded(module, profile)
        convert_conv2d_weight_memory_format(module.network, torch.channels_last)
        return module

    def _onnx_writer(self, make_module: Callable[[], nn.Module]) -> WriteOnnx | None:
        make_graph = self._source.make_graph
        if make_graph is not None:
            return lambda profile, path: write_image_graph(make_graph(), self._options, self._chosen, path)
        if self._source.is_exported:
            return lambda profile, path: export_onnx(make_module(), profile, self._names, path)
        return None

    def _module(self, network: nn.Module) -> VisionModule:
        return VisionModule(network, self._options, self._device, self._precision, self._chosen)

    def _eager(self, module: VisionModule, profile: OptimizationProfile) -> Engine:
        return Engine(EagerProgram(module), profile, self._device)

    def _folded(self, module: VisionModule, profile: OptimizationProfile) -> VisionModule:
        """The module with its batch normalisations folded, or as it is where that would change its outputs."""
        network = fold(module.network, self._folder.path)
        if network is None:
            return module
        folded = self._module(network)
        try:
            error = max(self._difference(module, folded, profile, size) for size in self._sizes)
        except Exception as failure:  # what was traced may fail where the user's code does not
            log.info("batch norm stays unfolded: %s", describe_failure(failure, self._folder.path))
            return module
        if not error <= FOLD_TOLERANCE:
            log.info("batch norm stays unfolded: it would change the outputs by %.1e", error)
            return module
        return folded

    def _difference(
        self, module: VisionModule, folded: VisionModule, profile: OptimizationProfile, size: tuple[int, int]
    ) -> float:
        image = noise(min(2, profile.max_batch), size)
        plain, other = (self._eager(m, profile).run([image]) for m in (module, folded))
        return deviation(plain, other)


def _profile(options: InferTable, max_batch: int) -> OptimizationProfile:
    smallest, best, largest = (
        (options.size,) * 3 if options.size else ((1, 1), PROBE_SIZES[0], (LARGEST_SIDE, LARGEST_SIDE))
    )
    image = ShapeRange(
        name=INPUT,
        dtype="uint8",
        min=(1, *smallest, 3),
        opt=(min(BEST_BATCH, max_batch), *best, 3),
        max=(max_batch, *largest, 3),
    )
    return OptimizationProfile((image,))
