"""NanoDet and other networks with the head of Generalized Focal Loss: a distance to each side, as a distribution."""

from __future__ import annotations

import numpy as np

from services.postprocess.activations import softmax
from services.postprocess.boxes import Floats
from services.postprocess.heads.base import Candidates, Head, best_class, no_landmarks
from services.postprocess.heads.options import DetectOptions
from stagemesh.errors import InvalidInput
from stagemesh.oip.signature import TensorSpec
from stagemesh.plugins import Arrays


class NanoDetHead(Head):
    """For each stride s `scores_s` [N, cells, C], sigmoid done, and `sides_s` [N, cells, 4·bins]; cells in rows.

    With `joined` one `predictions` [N, cells of all levels, C + 4·bins], scores first, which needs labels. A side's
    distance from the cell's centre is the mean bin under its softmax, times the stride.
    """

    def __init__(self, options: DetectOptions, classes: int) -> None:
        super().__init__(options, classes)
        self._centres, self._strides = _cells(options)

    def inputs(self) -> tuple[TensorSpec, ...]:
        """See the class."""
        if self.options.joined:
            return (TensorSpec("predictions", "FP32", (-1, len(self._strides), -1)),)
        counts = [int(np.count_nonzero(self._strides == stride)) for stride in self.options.strides]
        levels = list(zip(self.options.strides, counts, strict=True))
        return (
            *(TensorSpec(f"scores_{stride}", "FP32", (-1, count, self.classes)) for stride, count in levels),
            *(TensorSpec(f"sides_{stride}", "FP32", (-1, count, -1)) for stride, count in levels),
        )

    def candidates(self, outputs: Arrays, threshold: float) -> Candidates:
        """Only the sides of the cells above `threshold` are computed."""
        scores, sides = self._split(outputs)
        rows, best, class_ids = best_class(scores, threshold)
        distances = _distances(sides[rows]) * self._strides[rows, None]
        centres = self._centres[rows]
        corners = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1)
        return Candidates(self.in_pixels(corners), best, class_ids, no_landmarks(len(rows)))

    def _split(self, outputs: Arrays) -> tuple[Floats, Floats]:
        if self.options.joined:
            both = outputs["predictions"]
            scores, sides = both[:, : self.classes], both[:, self.classes :]
        else:
            scores, sides = (
                np.concatenate([outputs[f"{kind}_{stride}"] for stride in self.options.strides])
                for kind in ("scores", "sides")
            )
        if sides.shape[1] < 8 or sides.shape[1] % 4:
            raise InvalidInput(f"the sides of a box: expected 4 times 2 bins or more, found {sides.shape[1]} values")
        return scores, sides


def _distances(sides: Floats) -> Floats:
    """Mean bin [M, 4] of distributions [M, 4·bins], still logits."""
    bins = sides.shape[1] // 4
    powers = softmax(sides.reshape(-1, bins))
    return (powers @ np.arange(bins, dtype=np.float32)).reshape(-1, 4)


def _cells(options: DetectOptions) -> tuple[Floats, Floats]:
    """Centres (x, y) [cells, 2] in pixels from the image's edge and strides [cells] of the cells of all levels."""
    height, width = options.size or (0, 0)
    centres, strides = [], []
    for stride in options.strides:
        rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)]
        centres.append((np.stack([columns.ravel(), rows.ravel()], axis=1) + options.cell_offset) * stride)
        strides.append(np.full(rows.size, stride))
    return np.concatenate(centres).astype(np.float32), np.concatenate(strides).astype(np.float32)
