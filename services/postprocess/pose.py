"""The plug-in `pose`: what a pose network gives in, keypoints on the photo out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.postprocess.finite import check_finite
from services.postprocess.keypoints import Floats, PointOrder, in_order, peaks
from services.postprocess.labels import Labels
from services.postprocess.parameters import share
from services.postprocess.photo_map import META, PhotoMap
from stagemesh.errors import InvalidInput
from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays, Postprocessor
from stagemesh.repository import ModelFolder
from stagemesh.tables import check_range, check_unused

MOST_KEYPOINTS = 1_000_000
"""Of a request: each is answered with a label of its own."""


@dataclass(frozen=True, kw_only=True)
class PoseOptions:
    """Keys of `[postprocess]` with plugin = "pose"; a request parameter `score_threshold` overrides that key.

    A point whose score is above `score_threshold` counts as visible. head = "decoded": the graph gives places, in
    `order`, as fractions of the network's image of `size` (height, width) if there is that key, else in its pixels.
    head = "heatmap": a map for each keypoint of one person; a value stands for `stride` pixels along each side.
    """

    head: Literal["decoded", "heatmap"]
    score_threshold: float = 0.3
    order: PointOrder = "xy"
    size: tuple[int, int] | None = None
    stride: float = 4.0
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __post_init__(self) -> None:
        check_range("score_threshold", self.score_threshold, 0.0, 1.0)
        check_range("stride", self.stride, 0.01, 1024.0)
        for side in self.size or ():
            check_range("size", side, 1, 16_384)
        foreign = {"order", "size"} if self.head == "heatmap" else {"stride", "layout"}
        check_unused(self, foreign, f"the head '{self.head}' has no such key")


class PosePostprocessor(Postprocessor):
    """`keypoints` FP32 [N, P, K, 3], P persons with a place and a score for each keypoint, or `heatmaps` FP32
    [N, K, h, w], P being 1, and `meta.*` → the same on the photo.

    `keypoints` FP32 [N, P, K, 2]: x, y in pixels of the photo, maybe beyond its edges; `scores` FP32, `visible` BOOL
    and `labels` BYTES, each [N, P, K]; `person_scores` FP32 [N, P], the mean of a person's scores.
    """

    Options = PoseOptions

    def __init__(self, options: PoseOptions, folder: ModelFolder) -> None:
        super().__init__(options, folder)
        self._options = options
        self._labels = Labels(folder)

    def signature(self) -> Signature:
        """See the class."""
        points = len(self._labels) or -1
        source = TensorSpec("keypoints", "FP32", (-1, -1, points, 3))
        if self._options.head == "heatmap":
            last = self._options.layout == "NHWC"
            source = TensorSpec("heatmaps", "FP32", (-1, -1, -1, points) if last else (-1, points, -1, -1))
        return Signature(
            inputs=(source, *META),
            outputs=(
                TensorSpec("keypoints", "FP32", (-1, -1, points, 2)),
                TensorSpec("scores", "FP32", (-1, -1, points)),
                TensorSpec("visible", "BOOL", (-1, -1, points)),
                TensorSpec("labels", "BYTES", (-1, -1, points)),
                TensorSpec("person_scores", "FP32", (-1, -1)),
            ),
        )

    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        """Raises InvalidInput for a bad parameter, empty maps, NaN and bad meta.*"""
        threshold = share(parameters, "score_threshold", self._options.score_threshold)
        points, scores = self._from_maps(inputs) if self._options.head == "heatmap" else self._decoded(inputs)
        if scores.size > MOST_KEYPOINTS:
            raise InvalidInput(f"expected at most {MOST_KEYPOINTS:,} keypoints in a request, found {scores.size:,}")
        photos = PhotoMap.read(inputs)
        names = self._labels.name(np.arange(scores.shape[2], dtype=np.int32))
        return {
            "keypoints": np.stack([photo.points(found) for photo, found in zip(photos, points, strict=True)]),
            "scores": scores,
            "visible": scores > threshold,
            "labels": np.broadcast_to(names, scores.shape),
            "person_scores": scores.mean(axis=2),
        }

    def _decoded(self, inputs: Arrays) -> tuple[Floats, Floats]:
        """Points [N, P, K, 2] in network pixels and scores [N, P, K]."""
        raw: NDArray[np.float32] = inputs["keypoints"]
        check_finite("keypoints", raw)
        if not raw.shape[2]:
            raise InvalidInput(f"input 'keypoints': expected one or more keypoints, found shape {list(raw.shape)}")
        points = in_order(raw[..., :2], self._options.order)
        if self._options.size:
            height, width = self._options.size
            points = points * np.array([width, height], np.float32) - np.float32(0.5)
        return points, raw[..., 2]

    def _from_maps(self, inputs: Arrays) -> tuple[Floats, Floats]:
        """The same of heat maps."""
        heat: NDArray[np.float32] = inputs["heatmaps"]
        check_finite("heatmaps", heat)
        if 0 in heat.shape:
            raise InvalidInput(f"input 'heatmaps': expected maps with values, found shape {list(heat.shape)}")
        if self._options.layout == "NHWC":
            heat = heat.transpose(0, 3, 1, 2)
        cells, scores = peaks(heat)
        points = (cells + np.float32(0.5)) * np.float32(self._options.stride) - np.float32(0.5)
        return points[:, None], scores[:, None]
