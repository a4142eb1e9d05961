"""Photos, real ones and ones made on the spot."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.preprocess.image import ImageOptions, ImagePreprocessor
from stagemesh.plugins import Arrays
from stagemesh.repository import ModelFolder
from stagemesh.tables import parse_table

ROOT = Path(__file__).parents[2]
Encode = Callable[..., bytes]
Run = Callable[..., Arrays]


@pytest.fixture(scope="session")
def photo() -> Callable[[str], bytes]:
    """The bytes of a real photo by file name."""

    def read(name: str) -> bytes:
        folder = ROOT / ("tests/photos" if name == "china.jpg" else "examples/photos")
        return (folder / name).read_bytes()

    return read


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Pixels or a Pillow image as a file of `kind`."""

    def make(pixels: NDArray[Any] | Image.Image, kind: str = "PNG", **keys: Any) -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        if (orientation := keys.pop("orientation", 0)) != 0:
            exif = Image.Exif()
            exif[0x0112] = orientation
            keys["exif"] = exif.tobytes()
        file = io.BytesIO()
        image.save(file, kind, **keys)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def run() -> Run:
    """The plug-in with the keys of a model.toml on some photos."""

    def call(*photos: bytes, **keys: Any) -> Arrays:
        options = parse_table(ImageOptions, keys, "m.toml [preprocess]")
        plugin = ImagePreprocessor(options, ModelFolder("m", Path("m"), "custom", (), {}))
        batch = np.empty(len(photos), object)
        batch[:] = photos
        return plugin.run({"image": batch}, {})

    return call
