"""YOLO v5 to v11, boxes decoded in the graph as their exporters do."""

from __future__ import annotations

import numpy as np

from services.postprocess.boxes import to_corners
from services.postprocess.heads.base import Candidates, Head, above, best_class, no_landmarks
from stagemesh.oip.signature import TensorSpec
from stagemesh.plugins import Arrays


class YoloV5Head(Head):
    """v5 to v7: `predictions` [N, A, 5 + C]: centre, size, objectness, class probabilities."""

    def inputs(self) -> tuple[TensorSpec, ...]:
        """See the class."""
        return (TensorSpec("predictions", "FP32", (-1, -1, self.classes + 5 if self.classes > 0 else -1)),)

    def candidates(self, outputs: Arrays, threshold: float) -> Candidates:
        """The score is objectness times class probability."""
        rows = outputs["predictions"]
        rows = rows[rows[:, 4] > threshold]
        chosen, scores, class_ids = best_class(rows[:, 5:] * rows[:, 4:5], threshold)
        corners = to_corners(rows[chosen, :4], "cxcywh")
        return Candidates(self.in_pixels(corners), scores, class_ids, no_landmarks(len(chosen)))


class YoloV8Head(Head):
    """v8, v9 and v11: `predictions` [N, 4 + C, A]: centre, size, class probabilities."""

    def inputs(self) -> tuple[TensorSpec, ...]:
        """See the class."""
        return (TensorSpec("predictions", "FP32", (-1, self.classes + 4 if self.classes > 0 else -1, -1)),)

    def candidates(self, outputs: Arrays, threshold: float) -> Candidates:
        """The score is the probability of the best class."""
        columns = outputs["predictions"]
        chosen, scores, class_ids = best_class(columns[4:].T, threshold)
        corners = to_corners(columns[:4, chosen].T, "cxcywh")
        return Candidates(self.in_pixels(corners), scores, class_ids, no_landmarks(len(chosen)))


class YoloV10Head(Head):
    """v10 and other exports with selection in the graph: `predictions` [N, K, 6]: x1, y1, x2, y2, score, class."""

    suppresses = False

    def inputs(self) -> tuple[TensorSpec, ...]:
        """See the class."""
        return (TensorSpec("predictions", "FP32", (-1, -1, 6)),)

    def candidates(self, outputs: Arrays, threshold: float) -> Candidates:
        """Rows of padding have the score 0."""
        rows = outputs["predictions"]
        rows = rows[above(rows[:, 4], threshold)]
        class_ids = rows[:, 5].astype(np.int32)
        return Candidates(self.in_pixels(rows[:, :4]), rows[:, 4], class_ids, no_landmarks(len(rows)))
