"""Resizing with OpenCV."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from services.preprocess.geometry import Placement

Interpolation = Literal["nearest", "linear", "cubic", "area", "lanczos"]

_FLAGS: dict[Interpolation, int] = {
    "nearest": cv2.INTER_NEAREST_EXACT,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


def one_thread() -> None:
    """Keep OpenCV to the calling thread: the stage's workers are the threads."""
    cv2.setNumThreads(1)


def draw(
    pixels: NDArray[np.uint8], placement: Placement, interpolation: Interpolation, pad: int, out: NDArray[np.uint8]
) -> None:
    """Resize `placement.source` of `pixels` [h, w, 3] onto its target in `out` [H, W, 3]; the rest becomes `pad`.

    Only "area" averages, where the photo shrinks along both axes; else it is "linear". The others sample, as most
    networks were trained.
    """
    source, target = placement.source, placement.target
    cropped = pixels[source.y : source.y + source.height, source.x : source.x + source.width]
    room = out[target.y : target.y + target.height, target.x : target.x + target.width]
    if room.shape != out.shape:
        out[:] = pad
    if interpolation == "area" and min(placement.scale) < 1:
        interpolation = "linear"  # where it enlarges, OpenCV's area mode moves the picture by a part of a pixel
    room[:] = cv2.resize(cropped, (target.width, target.height), interpolation=_FLAGS[interpolation])
