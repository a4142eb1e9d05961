"""Normalisation before the network, for engines that take floating point input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["NCHW", "NHWC"]
Channels = Literal["RGB", "BGR"]


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) / std of x = 0 … 255 for each channel; `mean` and `std` are in the order of `channels`."""

    layout: Layout
    channels: Channels
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def shape(self, batch: int, height: int, width: int) -> tuple[int, int, int, int]:
        """The shape of what `apply` gives."""
        return (batch, 3, height, width) if self.layout == "NCHW" else (batch, height, width, 3)

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 in `layout` from RGB [n, h, w, 3]."""
        out = np.empty(self.shape(*images.shape[:3]), np.float32)
        planes = out if self.layout == "NCHW" else out.transpose(0, 3, 1, 2)
        levels = np.arange(256, dtype=np.float64)
        for channel, name in enumerate(self.channels):
            # There are only 256 levels: looking them up is several times faster than computing each pixel.
            table = ((levels - self.mean[channel]) / self.std[channel]).astype(np.float32)
            planes[:, channel] = table[images[..., "RGB".index(name)]]
        return out
