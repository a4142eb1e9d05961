"""Non-maximum suppression: of boxes that cover one another only the best stays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.postprocess.boxes import Floats, overlaps

MOST_CANDIDATES = 30_000
"""How many boxes of a photo are looked at, the best ones: their number is the client's, and each one costs."""


def suppress(
    boxes: Floats, scores: Floats, class_ids: NDArray[np.int32], iou_threshold: float, limit: int
) -> NDArray[np.intp]:
    """Indices of the boxes [M, 4] to keep, at most `limit`, best score first, of equal ones the first.

    A box falls when its intersection over union with a kept one of its class is above `iou_threshold`. Of more than
    MOST_CANDIDATES the best are considered.
    """
    order = best_first(scores, MOST_CANDIDATES)
    columns, class_ids = np.ascontiguousarray(boxes[order].T), class_ids[order]
    kept: list[int] = []
    while len(order) and len(kept) < limit:
        kept.append(int(order[0]))
        stays = (overlaps(columns[:, 0], columns.T) <= iou_threshold) | (class_ids != class_ids[0])
        stays[0] = False
        order, columns, class_ids = order[stays], np.compress(stays, columns, axis=1), class_ids[stays]
    return np.array(kept, np.intp)


def best_first(scores: NDArray[Any], limit: int) -> NDArray[np.intp]:
    """Indices of the `limit` largest `scores` [M], the largest first, of equal ones the first."""
    chosen = best(scores, limit)
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def best(scores: NDArray[Any], limit: int) -> NDArray[np.intp]:
    """The same indices in ascending order; linear in M."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    least = np.partition(scores, -limit)[-limit]
    chosen = scores > least
    chosen[np.flatnonzero(scores == least)[: limit - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)
