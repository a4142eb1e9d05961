"""Non-maximum suppression: of boxes that cover one another only the best stays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.postprocess.boxes import Floats, overlaps


def suppress(
    boxes: Floats, scores: Floats, class_ids: NDArray[np.int32], iou_threshold: float, limit: int
) -> NDArray[np.intp]:
    """Indices of the boxes [M, 4] to keep, at most `limit`, best score first, of equal ones the first.

    A box falls when its intersection over union with a kept one of its class is above `iou_threshold`.
    """
    order = best_first(scores)
    boxes, class_ids = boxes[order], class_ids[order]
    kept: list[int] = []
    while len(order) and len(kept) < limit:
        kept.append(int(order[0]))
        stays = (overlaps(boxes[0], boxes) <= iou_threshold) | (class_ids != class_ids[0])
        stays[0] = False
        order, boxes, class_ids = order[stays], boxes[stays], class_ids[stays]
    return np.array(kept, np.intp)


def best_first(scores: NDArray[Any]) -> NDArray[np.intp]:
    """Indices that sort `scores` [M], the largest first, of equal ones the first."""
    return np.argsort(-scores, kind="stable")
