"""Photos of the reference outputs that may not lie in this repository: fetched once into the cache."""

from __future__ import annotations

import os
from pathlib import Path

from stagemesh.settings import default_cache
from stagemesh.sources import resolve

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("STAGEMESH_CACHE") or default_cache())

_ULTRALYTICS = "pip:ultralytics==8.4.190!ultralytics/assets"
_FETCHED = {
    "bus.jpg": (f"{_ULTRALYTICS}/bus.jpg", "c02019c4979c191eb739ddd944445ef408dad5679acab6fd520ef9d434bfbc63"),
    "zidane.jpg": (f"{_ULTRALYTICS}/zidane.jpg", "16d73869e3267a7d4ed00de8e860833bd1657c1b252e94c0c348277adc7b6edb"),
    "motorcycle_left.png": (
        "pip:scikit-image==0.26.0!skimage/data/motorcycle_left.png",
        "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    ),
    "flower.jpg": (
        "pip:scikit-learn==1.9.1!sklearn/datasets/images/flower.jpg",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    ),
}


def photo(name: str) -> Path:
    """The file of a photo by name."""
    if name in _FETCHED:
        return resolve(*_FETCHED[name], ROOT, CACHE)
    return ROOT / ("tests/photos" if name == "china.jpg" else "examples/photos") / name
