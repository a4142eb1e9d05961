"""Mask arithmetic: from a network's planes to the pixels of the photo, block by block of rows.

An `Axis` says for each row (or column) of the photo which two rows of the plane it lies between, and how far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Regions = tuple[NDArray[np.int32], Floats, Floats]

UNSEEN = 255
"""The class of pixels that the network was not shown."""

_BLOCK_PIXELS = 1 << 17
_BLOCK_VALUES = 1 << 21
_EDGE = 1e-3


@dataclass(frozen=True, slots=True)
class Axis:
    """`low` and `high` [P] indices into the plane, `part` [P] of the way from low to high; outside of what the
    network saw `seen` [P] is False."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    part: Floats
    seen: NDArray[np.bool_]

    @classmethod
    def sample(cls, positions: NDArray[np.float64], size: int, stride: float) -> Axis:
        """Sample `size` cells of `stride` network pixels at positions [P] in network pixels, whose centres are
        integers; beyond the outermost centres the edge goes on."""
        cells = (positions + 0.5) / stride - 0.5
        seen = (cells >= -0.5 - _EDGE) & (cells <= size - 0.5 + _EDGE)
        inner = np.clip(cells, 0, size - 1)
        low = np.floor(inner).astype(np.intp)
        return cls(low, np.minimum(low + 1, size - 1), (inner - low).astype(np.float32), seen)

    def __len__(self) -> int:
        return len(self.low)

    def cut(self, rows: slice) -> Axis:
        """The part `rows` of it."""
        return Axis(self.low[rows], self.high[rows], self.part[rows], self.seen[rows])


def blocks(rows: Axis, columns: Axis, planes: int = 1) -> Iterator[slice]:
    """Slices that cover all rows, each few enough for the arrays over it, of `planes` values a pixel, to stay small."""
    step = max(1, min(_BLOCK_PIXELS, _BLOCK_VALUES // planes) // max(1, len(columns)))
    return (slice(start, start + step) for start in range(0, len(rows), step))


def stretch(plane: Floats) -> Floats:
    """The plane with its smallest value at 0 and its largest at 1; all 0 where they are the same."""
    low, high = plane.min(), plane.max()
    return (plane - low) / (high - low) if high > low else np.zeros_like(plane)


def enlarge(plane: Floats, rows: Axis, columns: Axis) -> Iterator[tuple[slice, Floats]]:
    """Blocks of rows of a plane [h, w] at the photo's pixels, bilinear; 0 where the network saw nothing."""
    for block in blocks(rows, columns):
        own = rows.cut(block)
        used, at = np.unique(np.concatenate([own.low, own.high]), return_inverse=True)
        wide = _widen(plane, used, columns)
        low, high = at[: len(own)], at[len(own) :]
        values = wide[low]
        values += (wide[high] - values) * own.part[:, None]
        values[~own.seen] = 0
        yield block, values


def _widen(plane: Floats, rows: NDArray[np.intp], columns: Axis) -> Floats:
    """Some rows of a plane at all columns of the photo."""
    at = rows[:, None]
    wide: Floats = plane[at, columns.low] * (1 - columns.part) + plane[at, columns.high] * columns.part
    wide[:, ~columns.seen] = 0
    return wide


def enlarge_classes(logits: Floats, rows: Axis, columns: Axis) -> Bytes:
    """The best class [H, W] at the photo's pixels of logits [C, h, w], bilinear; UNSEEN where there are none.

    Between four corners of one best class no other class can win, so only the rest is interpolated.
    """
    best = logits.argmax(axis=0).astype(np.uint8)
    mixed = _mixed(best)
    classes = np.empty((len(rows), len(columns)), np.uint8)
    for block in blocks(rows, columns, len(logits)):
        own, part = rows.cut(block), classes[block]
        part[:] = best[own.low[:, None], columns.low]
        y, x = np.nonzero(mixed[own.low[:, None], columns.low])
        part[y, x] = _interpolate(logits, own, columns, y, x).argmax(axis=0)
        part[~own.seen] = UNSEEN
    classes[:, ~columns.seen] = UNSEEN
    return classes


def _mixed(best: Bytes) -> NDArray[np.bool_]:
    """Whether the four corners of the cell right of and below each value [h, w] differ."""
    padded = np.pad(best, ((0, 1), (0, 1)), mode="edge")
    right, below, across = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    result: NDArray[np.bool_] = (best != right) | (best != below) | (best != across)
    return result


def _interpolate(logits: Floats, rows: Axis, columns: Axis, y: NDArray[Any], x: NDArray[Any]) -> Floats:
    """Logits [C, M] at the photo's pixels (y, x) [M]."""
    top, bottom, down = rows.low[y], rows.high[y], rows.part[y]
    left, right, along = columns.low[x], columns.high[x], columns.part[x]
    upper = logits[:, top, left] * (1 - along) + logits[:, top, right] * along
    lower = logits[:, bottom, left] * (1 - along) + logits[:, bottom, right] * along
    result: Floats = upper * (1 - down) + lower * down
    return result


def regions(classes: Bytes, background: int | None) -> Regions:
    """The classes present in a map [H, W], the largest first: (class ids [K], shares [K] of the map, boxes [K, 4]).

    A box reaches from edge to edge of its outermost pixels. `background` and UNSEEN are left out.
    """
    pixels = _histogram(classes.ravel())
    pixels[UNSEEN] = 0
    if background is not None:
        pixels[background] = 0
    ids = np.argsort(-pixels, kind="stable")[: np.count_nonzero(pixels)]
    boxes = [_bounds(classes == class_id) for class_id in ids]
    shares = (pixels[ids] / classes.size).astype(np.float32)
    return ids.astype(np.int32), shares, np.array(boxes, np.float32).reshape(-1, 4)


def _histogram(classes: Bytes) -> NDArray[np.intp]:
    """How often each class [256] is among `classes` [M]; in blocks, as bincount copies what it counts at 8 times."""
    pixels = np.zeros(256, np.intp)
    for start in range(0, len(classes), _BLOCK_PIXELS):
        pixels += np.bincount(classes[start : start + _BLOCK_PIXELS], minlength=256)
    return pixels


def _bounds(inside: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5
