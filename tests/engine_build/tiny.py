"""The small network of these tests, its profile and its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from services.infer.engine.builder import BuilderConfig
from services.infer.engine.context import ExecutionContext
from services.infer.engine.definition import NetworkDefinition
from services.infer.engine.eager import EagerProgram
from services.infer.engine.engine import Engine
from services.infer.engine.machine import Machine
from services.infer.engine.manifest import Identity
from services.infer.engine.profile import OptimizationProfile, ShapeRange

CPU = torch.device("cpu")
MAX_BATCH = 8
SIDE = 16
PROFILE = OptimizationProfile(
    (ShapeRange("image", "uint8", (1, SIDE, SIDE, 3), (4, SIDE, SIDE, 3), (MAX_BATCH, SIDE, SIDE, 3)),)
)
SOURCE = hashlib.sha256(b"tiny network of the tests, first edition").hexdigest()


class Tiny(nn.Module):
    """Uint8 [N,16,16,3] to FP32 [N,5] and [N,4,8,8]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.conv(image.float().permute(0, 3, 1, 2) / 255).relu()
        return self.head(features.mean(dim=(2, 3))), features


REFERENCE = Tiny().eval()


def network(module: nn.Module | None = None, *, source: str = SOURCE) -> NetworkDefinition:
    """The definition of Tiny, or of another module with its inputs and outputs."""
    made = (module or REFERENCE).eval()
    return NetworkDefinition(name="tests-tiny", source=source, make_module=lambda: made, outputs=("logits", "map"))


def config(backend: str = "auto", *, compiles: bool = False, profile: OptimizationProfile = PROFILE) -> BuilderConfig:
    """For the CPU and two threads."""
    return BuilderConfig(device=CPU, profile=profile, backend=backend, compiles=compiles, threads=2)


def identity() -> Identity:
    """What the store knows Tiny by on this machine."""
    return Identity(model="tests-tiny", source=SOURCE, dtype="fp32", profile=PROFILE, machine=Machine.of(CPU))


def images(batch: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Random images for Tiny."""
    return np.random.default_rng(seed).integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8)


def expected(image: npt.NDArray[np.uint8]) -> Sequence[npt.NDArray[np.float32]]:
    """What Tiny gives, computed without any engine."""
    with torch.inference_mode():
        return [output.numpy() for output in REFERENCE(torch.from_numpy(image))]


def eager_engine(module: nn.Module) -> Engine:
    """An engine that runs a module of Tiny's kind eagerly, with memory of its own."""
    return Engine(EagerProgram(module.eval()), PROFILE, CPU)


def check(context: ExecutionContext, batch: int, seed: int = 0) -> None:
    """A context computes what Tiny computes."""
    image = images(batch, seed)
    for found, wanted in zip(context.enqueue([image]), expected(image), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
