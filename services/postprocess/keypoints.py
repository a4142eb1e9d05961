"""Keypoint arithmetic."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
PointOrder = Literal["xy", "yx"]


def in_order(points: Floats, order: PointOrder) -> Floats:
    """Points [..., 2] as x, y."""
    return points if order == "xy" else points[..., ::-1]


def peaks(heat: Floats) -> tuple[Floats, Floats]:
    """The highest place of each heat map [..., h, w]: (points (x, y) in cells [..., 2], heights [...]).

    A point is moved by a quarter of a cell towards its higher neighbour along each axis: maps are coarse, and the
    true place is likelier on that side.
    """
    height, width = heat.shape[-2:]
    flat = heat.reshape(-1, height * width)
    best, each = flat.argmax(axis=1), np.arange(len(flat))
    rows, columns = np.divmod(best, width)
    maps = heat.reshape(-1, height, width)
    x = columns + _lean(maps[each, rows], columns)
    y = rows + _lean(maps[each, :, columns], rows)
    points = np.stack([x, y], axis=1).astype(np.float32)
    return points.reshape(*heat.shape[:-2], 2), flat[each, best].reshape(heat.shape[:-2])


def _lean(lines: Floats, at: NDArray[np.intp]) -> Floats:
    """A quarter towards the higher neighbour of the value `at` [M] of each line [M, L]; 0 at its ends."""
    each, last = np.arange(len(lines)), lines.shape[1] - 1
    slope = np.sign(lines[each, np.minimum(at + 1, last)] - lines[each, np.maximum(at - 1, 0)])
    result: Floats = np.where((at > 0) & (at < last), slope * np.float32(0.25), np.float32(0))
    return result
