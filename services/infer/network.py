"""A network that is loaded and ready to run: an image batch in, named float32 outputs out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format

from services.infer.architecture import build_module, describe_failure, load_state
from services.infer.device import download, upload
from services.infer.fold import fold_batch_norm
from services.infer.normalise import Normaliser
from services.infer.table import InferTable
from stagemesh.errors import ConfigError, InvalidInput, StageFailed
from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays
from stagemesh.repository import ModelFolder, parse_table
from stagemesh.sources import resolve

INPUT = "image"
PROBE_SIZES = ((224, 224), (256, 288))
PROBE_BATCH = 2
FOLD_TOLERANCE = 1e-4

log = logging.getLogger(__name__)


def load_network(folder: ModelFolder, table: Mapping[str, object], device: torch.device, cache: Path) -> Network:
    """Make the network of `table`, the model's [infer] table without its batching keys.

    Fetches the weights where they are not in `cache` yet, and runs the network once to learn its outputs.
    Raises ConfigError naming file and table: a bad key, source, checksum, arch or state dict, a network
    that fails or gives another number of outputs than the table names.
    """
    where = folder.where("infer")
    options = parse_table(InferTable, table, where)
    try:
        weights = resolve(options.source, options.sha256, folder.path, cache)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    module = build_module(options.arch, folder.path, where)
    load_state(module, weights, where)
    try:
        return Network(module, options, device, folder.path)
    except StageFailed as error:
        raise ConfigError(f"{where}: {error}") from error


class Network:
    """A torch module with its normalisation on one device; several threads may run it at once."""

    def __init__(self, module: nn.Module, table: InferTable, device: torch.device, folder: Path) -> None:
        """Put `module` on `device`; `folder` is where its code lies. Raises StageFailed if it can't run."""
        self._device = device
        self._folder = folder
        self._names = table.outputs
        self._normalise = Normaliser(table, device)
        self._sizes = (table.size,) if table.size else PROBE_SIZES
        self._module = module.eval().to(device)
        self._signature = self._probe()
        self._module = convert_conv2d_weight_memory_format(self._folded(), torch.channels_last)

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
        outputs = self._compute(self._module, image)
        for name, output in outputs.items():
            if output.ndim == 0 or len(output) != len(image):
                raise StageFailed(
                    f"output '{name}' of the network: expected {len(image)} samples, got shape {list(output.shape)}"
                )
        return outputs

    def warm_up(self, batch_sizes: Iterable[int]) -> None:
        """Run a grey image at each batch size, so that no request pays for what is done the first time.

        Raises ConfigError where the network can't run one of them.
        """
        for batch in batch_sizes:
            try:
                self.run({INPUT: np.full((batch, *self._sizes[0], 3), 127, np.uint8)}, {})
            except StageFailed as error:
                raise ConfigError(f"{self._folder.name}: warm-up with a batch of {batch}: {error}") from error

    def _compute(self, module: nn.Module, image: npt.NDArray[np.generic]) -> Arrays:
        try:
            with torch.inference_mode():
                raw = module(self._normalise(upload(image, self._device)))
                tensors = [raw] if isinstance(raw, torch.Tensor) else list(raw)
                outputs = [download(tensor) for tensor in tensors]
        except Exception as error:  # the user's module: its failure is the request's, not the server's
            raise StageFailed(f"the network failed: {describe_failure(error, self._folder)}") from error
        if len(outputs) != len(self._names):
            names = ", ".join(self._names)
            raise StageFailed(f"expected {len(self._names)} outputs of the network ({names}), got {len(outputs)}")
        return dict(zip(self._names, outputs, strict=True))

    def _probe(self) -> Signature:
        found = [self.run({INPUT: _noise(size)}, {}) for size in self._sizes]
        height, width = self._sizes[0] if len(self._sizes) == 1 else (-1, -1)
        outputs = [
            TensorSpec(name, "FP32", _common_shape([outputs[name].shape for outputs in found])) for name in self._names
        ]
        return Signature((TensorSpec(INPUT, "UINT8", (-1, height, width, 3)),), tuple(outputs))

    def _folded(self) -> nn.Module:
        """The module with its batch normalisations folded, or as it is where that would change its outputs."""
        try:
            folded = fold_batch_norm(self._module)
            error = max(self._difference(folded, size) for size in self._sizes)
        except Exception as failure:  # tracing runs the user's code on stand-ins, which may break it anyhow
            log.info("batch norm stays unfolded: %s", describe_failure(failure, self._folder))
            return self._module
        if not error <= FOLD_TOLERANCE:
            log.info("batch norm stays unfolded: it would change the outputs by %.1e", error)
            return self._module
        return folded

    def _difference(self, folded: nn.Module, size: tuple[int, int]) -> float:
        image = _noise(size)
        plain, other = self._compute(self._module, image), self._compute(folded, image)
        errors = [
            np.abs(plain[name] - other[name]).max() / max(np.abs(plain[name]).max(), 1e-6) for name in self._names
        ]
        return float(max(errors))


def _noise(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (PROBE_BATCH, *size, 3), np.uint8)


def _common_shape(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    first, last = shapes[0], shapes[-1]
    if len(first) != len(last):
        raise StageFailed(f"expected an output of one rank at all sizes, got {list(first)} and {list(last)}")
    return (-1, *(a if a == b else -1 for a, b in zip(first[1:], last[1:], strict=True)))
