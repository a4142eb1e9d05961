"""The plug-in `detect`: what a detection network gives in, boxes on the photo out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.postprocess.finite import check_finite
from services.postprocess.heads.base import Candidates, Head
from services.postprocess.heads.centerface import CenterFaceHead
from services.postprocess.heads.decoded import DecodedHead
from services.postprocess.heads.nanodet import NanoDetHead
from services.postprocess.heads.options import MOST_DETECTIONS, DetectOptions, HeadName
from services.postprocess.heads.yolo import YoloV5Head, YoloV8Head, YoloV10Head
from services.postprocess.labels import Labels
from services.postprocess.nms import best_first, suppress
from services.postprocess.parameters import count, share
from services.postprocess.photo_map import META, PhotoMap
from stagemesh.errors import ConfigError
from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays, Postprocessor
from stagemesh.repository import ModelFolder

_HEADS: Mapping[HeadName, type[Head]] = {
    "nanodet": NanoDetHead,
    "centerface": CenterFaceHead,
    "yolov5": YoloV5Head,
    "yolov8": YoloV8Head,
    "yolov10": YoloV10Head,
    "decoded": DecodedHead,
}


@dataclass(frozen=True, slots=True)
class _Limits:
    """The options that a request may change."""

    score_threshold: float
    iou_threshold: float
    top_k: int


class DetectPostprocessor(Postprocessor):
    """The inputs of its head and `meta.*` → the detections of each photo, best first.

    `boxes` FP32 [N, K, 4]: x1, y1, x2, y2, in pixels of the photo; `scores` FP32 [N, K]; `class_ids` INT32 [N, K];
    `labels` BYTES [N, K]; `count` INT32 [N]; with some heads `landmarks` FP32 [N, K, L, 2]: x, y. K is the largest
    `count` of the batch; the rows of other photos are filled up with score 0, class id -1 and an empty label.
    """

    Options = DetectOptions

    def __init__(self, options: DetectOptions, folder: ModelFolder) -> None:
        super().__init__(options, folder)
        if options.joined and not folder.labels:
            raise ConfigError(f"{folder.where('postprocess')}: key 'joined': expected a model with labels, found none")
        self._options = options
        self._labels = Labels(folder)
        self._head = _HEADS[options.head](options, len(folder.labels) or -1)

    def signature(self) -> Signature:
        """See the class."""
        outputs = [
            TensorSpec("boxes", "FP32", (-1, -1, 4)),
            TensorSpec("scores", "FP32", (-1, -1)),
            TensorSpec("class_ids", "INT32", (-1, -1)),
            TensorSpec("labels", "BYTES", (-1, -1)),
            TensorSpec("count", "INT32", (-1,)),
        ]
        if self._head.landmarks:
            outputs.append(TensorSpec("landmarks", "FP32", (-1, -1, self._head.landmarks, 2)))
        return Signature((*self._head.inputs(), *META), tuple(outputs))

    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        """Raises InvalidInput for bad parameters and inputs that don't fit or aren't numbers."""
        limits = self._limits(parameters)
        raw = {spec.name: inputs[spec.name] for spec in self._head.inputs()}
        for name, array in raw.items():
            check_finite(name, array)
        photos = PhotoMap.read(inputs)
        found = [
            self._detect({name: array[index] for name, array in raw.items()}, photo, limits)
            for index, photo in enumerate(photos)
        ]
        return self._pack(found)

    def _limits(self, parameters: Mapping[str, Parameter]) -> _Limits:
        options = self._options
        return _Limits(
            share(parameters, "score_threshold", options.score_threshold),
            share(parameters, "iou_threshold", options.iou_threshold),
            count(parameters, "top_k", options.top_k, MOST_DETECTIONS),
        )

    def _detect(self, outputs: Arrays, photo: PhotoMap, limits: _Limits) -> Candidates:
        found = self._head.candidates(outputs, limits.score_threshold)
        found = found.take(self._choose(found, limits))
        found = found.moved(photo.boxes(found.boxes), photo.points(found.landmarks))
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        return found.take(sides.min(axis=1, initial=1) > 0)  # not those that lie on the padding around the photo

    def _choose(self, found: Candidates, limits: _Limits) -> np.ndarray:
        if not self._head.suppresses:
            return best_first(found.scores, limits.top_k)
        groups = np.zeros_like(found.class_ids) if self._options.class_agnostic else found.class_ids
        return suppress(found.boxes, found.scores, groups, limits.iou_threshold, limits.top_k)

    def _pack(self, found: Sequence[Candidates]) -> Arrays:
        counts = np.array([len(photo.scores) for photo in found], np.int32)
        rows = len(found), int(counts.max(initial=0))
        packed: Arrays = {
            "boxes": np.zeros((*rows, 4), np.float32),
            "scores": np.zeros(rows, np.float32),
            "class_ids": np.full(rows, -1, np.int32),
            "labels": np.full(rows, b"", object),
            "count": counts,
        }
        if self._head.landmarks:
            packed["landmarks"] = np.zeros((*rows, self._head.landmarks, 2), np.float32)
        for index, photo in enumerate(found):
            for name in packed.keys() & {"boxes", "scores", "class_ids", "landmarks"}:
                packed[name][index, : counts[index]] = getattr(photo, name)
            packed["labels"][index, : counts[index]] = self._labels.name(photo.class_ids)
        return packed
