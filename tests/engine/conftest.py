"""The graphs of the demo repository, with their real weights, read once a session."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from services.infer.engine.graph import RuntimeGraph
from services.infer.engine.parsers import parse_model
from stagemesh.settings import default_cache
from stagemesh.sources import resolve

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "examples" / "photos"
SHOWN = {"faces": "astronaut.png", "segment": "astronaut.png", "detect": "coffee.png", "pose": "astronaut.png"}
SIZES = {"faces": 512, "segment": 320, "detect": 416, "pose": 192}


@dataclass(frozen=True)
class Demo:
    """A graph, the file it came from, and a photo as the graph wants it, batch of 1."""

    name: str
    path: Path
    graph: RuntimeGraph
    image: torch.Tensor


def _photo(name: str) -> torch.Tensor:
    pixels = cv2.cvtColor(cv2.imread(str(PHOTOS / SHOWN[name])), cv2.COLOR_BGR2RGB)
    method = cv2.INTER_AREA if name == "segment" else cv2.INTER_LINEAR
    pixels = cv2.resize(pixels, (SIZES[name], SIZES[name]), interpolation=method)
    if name == "pose":
        return torch.from_numpy(pixels.astype(np.int32))[None]
    values = pixels.astype(np.float32)
    if name == "detect":
        values = (values[..., ::-1] - (103.53, 116.28, 123.675)) / (57.375, 57.12, 58.395)
    if name == "segment":
        values = (values / values.max() - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), np.float32))[None]


@pytest.fixture(scope="session", params=list(SIZES))
def demo(request: pytest.FixtureRequest) -> Demo:
    name = str(request.param)
    folder = ROOT / "models" / name
    table = tomllib.loads((folder / "model.toml").read_text())["infer"]
    cache = Path(os.environ.get("STAGEMESH_CACHE") or default_cache())
    path = resolve(table["source"], table["sha256"], folder, cache)
    return Demo(name, path, parse_model(path), _photo(name))
