"""Plug-ins as a model.toml makes them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.postprocess.registry import POSTPROCESSORS
from stagemesh.plugins import Arrays, Plugin, load_plugin
from stagemesh.repository import ModelFolder


def make(plugin: str, labels: tuple[str, ...] = (), **keys: object) -> Plugin:
    """The plug-in `plugin` with the keys of its table."""
    folder = ModelFolder("m", Path("m"), "custom", labels, {})
    return load_plugin("postprocess", folder, {"plugin": plugin, **keys}, POSTPROCESSORS)


def meta(*transforms: tuple[float, ...], size: tuple[int, int] = (100, 200)) -> Arrays:
    """`meta.*` of photos of one size (height, width); without transforms one photo that is the network's image."""
    rows = transforms or ((1, 0, 0, 0, 1, 0),)
    sizes: NDArray[np.int32] = np.array([size] * len(rows), np.int32)
    return {"meta.transform": np.array(rows, np.float32), "meta.size": sizes}


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """What gives, after the block or in it, the most bytes that Python and numpy had there beyond those before."""
    tracemalloc.start()
    most = 0
    try:
        yield lambda: most or tracemalloc.get_traced_memory()[1]
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
