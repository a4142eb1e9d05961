"""What a detection head is: it reads the outputs of a network as boxes with scores and classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from services.postprocess.boxes import Floats
from services.postprocess.heads.options import DetectOptions
from services.postprocess.nms import MOST_CANDIDATES, best
from stagemesh.oip.signature import TensorSpec
from stagemesh.plugins import Arrays


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may be on one photo: `boxes` [M, 4] and `landmarks` [M, L, 2] in pixels of the network's image, an integer
    being the centre of a pixel; `scores` [M] and `class_ids` [M]."""

    boxes: Floats
    scores: Floats
    class_ids: NDArray[np.int32]
    landmarks: Floats

    def take(self, chosen: NDArray[Any]) -> Candidates:
        """Those at the indices, or under the mask, `chosen`."""
        return Candidates(self.boxes[chosen], self.scores[chosen], self.class_ids[chosen], self.landmarks[chosen])

    def moved(self, boxes: Floats, landmarks: Floats) -> Candidates:
        """The same at other places."""
        return replace(self, boxes=boxes, landmarks=landmarks)


class Head(ABC):
    """A family of networks. One instance serves all requests of a model."""

    landmarks: ClassVar[int] = 0
    """Points a detection has beside its box."""
    suppresses: ClassVar[bool] = True
    """Whether boxes that cover one another are still to be suppressed."""

    def __init__(self, options: DetectOptions, classes: int) -> None:
        """`classes` is the number of labels, -1 for a model without any."""
        self.options = options
        self.classes = classes

    @abstractmethod
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The network's outputs it reads."""

    @abstractmethod
    def candidates(self, outputs: Arrays, threshold: float) -> Candidates:
        """What scores above `threshold` in the outputs for one photo, so without their batch dimension.

        Of more than MOST_CANDIDATES the best; see `above`. Raises InvalidInput for outputs that don't fit one another.
        """

    def in_pixels(self, corners: Floats) -> Floats:
        """Corners [..., 4] that count from the image's upper left edge, as a fraction of it if `normalised`."""
        if self.options.normalised and self.options.size:
            height, width = self.options.size
            corners = corners * np.array([width, height, width, height], np.float32)
        return corners - np.float32(0.5)


def above(scores: Floats, threshold: float) -> NDArray[np.intp]:
    """Indices of `scores` [A] above `threshold`, ascending; of more than MOST_CANDIDATES those of the best."""
    rows = np.flatnonzero(scores > threshold)
    return rows[best(scores[rows], MOST_CANDIDATES)]


def best_class(scores: Floats, threshold: float) -> tuple[NDArray[np.intp], Floats, NDArray[np.int32]]:
    """Rows of `scores` [A, C] whose best class is `above` the threshold: (rows [M], scores [M], class ids [M])."""
    if not scores.size:
        return np.empty(0, np.intp), np.empty(0, np.float32), np.empty(0, np.int32)
    highest = scores.max(axis=1)
    rows = above(highest, threshold)
    return rows, highest[rows], scores[rows].argmax(axis=1).astype(np.int32)


def no_landmarks(count: int) -> Floats:
    """The landmarks of `count` detections that have none."""
    return np.empty((count, 0, 2), np.float32)
