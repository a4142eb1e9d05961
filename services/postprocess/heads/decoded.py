"""Graphs that give boxes and scores: SSD and DETR families, and exports with their own non-maximum suppression."""

from __future__ import annotations

import numpy as np

from services.postprocess.activations import sigmoid, softmax
from services.postprocess.boxes import Floats, to_corners
from services.postprocess.heads.base import Candidates, Head, above, best_class, no_landmarks
from stagemesh.errors import InvalidInput
from stagemesh.oip.signature import TensorSpec
from stagemesh.plugins import Arrays


class DecodedHead(Head):
    """`boxes` FP32 [N, A, 4] in `box_format`, with `scores` FP32 [N, A, C].

    With `class_id_type` the scores are [N, A], beside `class_ids` [N, A] of that datatype.
    """

    def inputs(self) -> tuple[TensorSpec, ...]:
        """See the class."""
        boxes = TensorSpec("boxes", "FP32", (-1, -1, 4))
        if self.options.class_id_type is None:
            extra = self.classes > 0 and self.options.background is not None
            return boxes, TensorSpec("scores", "FP32", (-1, -1, self.classes + extra))
        ids = TensorSpec("class_ids", self.options.class_id_type, (-1, -1))
        return boxes, TensorSpec("scores", "FP32", (-1, -1)), ids

    def candidates(self, outputs: Arrays, threshold: float) -> Candidates:
        """See Head. Raises InvalidInput for tensors of different counts of boxes and for an unknown background."""
        boxes, scores = outputs["boxes"], self._activate(outputs["scores"])
        for name, values in outputs.items():
            if len(values) != len(boxes):
                raise InvalidInput(f"input '{name}': expected {len(boxes)} rows as of 'boxes', got {len(values)}")
        if self.options.class_id_type is None:
            rows, best, class_ids = best_class(self._without_background(scores), threshold)
        else:
            rows = above(scores, threshold)
            best, class_ids = scores[rows], outputs["class_ids"][rows].astype(np.int32)
        corners = to_corners(boxes[rows], self.options.box_format)
        return Candidates(self.in_pixels(corners), best, class_ids, no_landmarks(len(rows)))

    def _activate(self, scores: Floats) -> Floats:
        if self.options.activation == "sigmoid":
            return sigmoid(scores)
        return softmax(scores) if self.options.activation == "softmax" and scores.size else scores

    def _without_background(self, scores: Floats) -> Floats:
        background = self.options.background
        if background is None:
            return scores
        if not -scores.shape[1] <= background < scores.shape[1]:
            raise InvalidInput(
                f"input 'scores': expected a background class {background}, found {scores.shape[1]} classes"
            )
        return np.delete(scores, background, axis=1)
