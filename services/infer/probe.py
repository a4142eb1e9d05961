"""Running a network for the first time: what it gives, and whether a folded copy gives the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from services.infer.architecture import describe_failure
from services.infer.engine.engine import Engine
from services.infer.fold import fold_batch_norm
from stagemesh.errors import StageFailed, StagemeshError
from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.plugins import Arrays

INPUT = "image"
PROBE_BATCH = 2

Sizes = Sequence[tuple[int, int]]

log = logging.getLogger(__name__)


def compute(engine: Engine, names: Sequence[str], folder: Path, image: npt.NDArray[np.generic]) -> Arrays:
    """The outputs of `engine` for an image batch, by name.

    Raises InvalidInput for a shape outside the engine's profile, StageFailed where the network raises (with the line
    in `folder`) or gives another number of outputs or samples than it should.
    """
    try:
        outputs = engine.run([image])
    except StagemeshError:
        raise
    except Exception as error:  # the user's module: its failure is the request's, not the server's
        raise StageFailed(f"the network failed: {describe_failure(error, folder)}") from error
    if len(outputs) != len(names):
        raise StageFailed(f"expected {len(names)} outputs of the network ({', '.join(names)}), got {len(outputs)}")
    for name, output in zip(names, outputs, strict=True):
        if output.ndim == 0 or len(output) != len(image):
            raise StageFailed(
                f"output '{name}' of the network: expected {len(image)} samples, got shape {list(output.shape)}"
            )
    return dict(zip(names, outputs, strict=True))


def probe(engine: Engine, names: Sequence[str], folder: Path, sizes: Sizes) -> Signature:
    """The signature of a network, found by running it at each of `sizes`. Raises as `compute` does."""
    batch = min(PROBE_BATCH, engine.profile.max_batch)
    found = [compute(engine, names, folder, noise(batch, size)) for size in sizes]
    height, width = sizes[0] if len(sizes) == 1 else (-1, -1)
    outputs = [TensorSpec(name, "FP32", _common_shape([outputs[name].shape for outputs in found])) for name in names]
    return Signature((TensorSpec(INPUT, "UINT8", (-1, height, width, 3)),), tuple(outputs))


def fold(network: nn.Module, folder: Path) -> nn.Module | None:
    """`network` with its batch normalisations folded, None where tracing it fails."""
    try:
        return fold_batch_norm(network)
    except Exception as failure:  # tracing runs the user's code on stand-ins, which may break it anyhow
        log.info("batch norm stays unfolded: %s", describe_failure(failure, folder))
        return None


def noise(batch: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A repeatable batch of images without meaning."""
    return np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)


def _common_shape(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    first, last = shapes[0], shapes[-1]
    if len(first) != len(last):
        raise StageFailed(f"expected an output of one rank at all sizes, got {list(first)} and {list(last)}")
    return (-1, *(a if a == b else -1 for a, b in zip(first[1:], last[1:], strict=True)))
