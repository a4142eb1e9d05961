"""The keys of `[postprocess]` with plugin = "detect"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.postprocess.boxes import BoxFormat
from stagemesh.tables import check_range, check_unused

MOST_DETECTIONS = 1000
HeadName = Literal["nanodet", "centerface", "yolov5", "yolov8", "yolov10", "decoded"]

_HEAD_KEYS: dict[HeadName, frozenset[str]] = {
    "nanodet": frozenset({"size", "strides", "cell_offset", "joined"}),
    "centerface": frozenset(),
    "yolov5": frozenset({"normalised", "size"}),
    "yolov8": frozenset({"normalised", "size"}),
    "yolov10": frozenset({"normalised", "size"}),
    "decoded": frozenset({"normalised", "size", "box_format", "activation", "background", "class_id_type"}),
}


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """The request parameters `score_threshold`, `iou_threshold` and `top_k` override the keys of these names.

    A detection counts when its score is above `score_threshold`; at most `top_k` are answered for a photo. Of boxes
    of one class, or of any with `class_agnostic`, that overlap by more than `iou_threshold` the best stays; at 1.0
    all do. `size` is (height, width) of the network's image; with `normalised` the network gives coordinates from 0
    to 1 of it. "nanodet" needs `size`: `strides` are pixels per cell of its levels, `cell_offset` is where in a cell
    its sides start, 0.5 for the centre; `joined` says that scores and sides of all levels come in one tensor.

    For "decoded", `activation` turns what the network gives into scores. `background` is a class that is left out:
    the ids of the others close up, and it has no label; -1 is the last. `class_id_type`, the datatype of the input
    `class_ids`, says that the graph chose the classes.
    """

    head: HeadName
    score_threshold: float = 0.4
    iou_threshold: float = 0.6
    top_k: int = 100
    class_agnostic: bool = False
    size: tuple[int, int] | None = None
    normalised: bool = False
    strides: tuple[int, ...] = (8, 16, 32)
    cell_offset: float = 0.5
    joined: bool = False
    box_format: BoxFormat = "xyxy"
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    background: int | None = None
    class_id_type: Literal["FP32", "INT32", "INT64"] | None = None

    def __post_init__(self) -> None:
        check_range("score_threshold", self.score_threshold, 0.0, 1.0)
        check_range("iou_threshold", self.iou_threshold, 0.0, 1.0)
        check_range("top_k", self.top_k, 1, MOST_DETECTIONS)
        check_range("cell_offset", self.cell_offset, 0.0, 1.0)
        for side in self.size or ():
            check_range("size", side, 1, 16_384)
        for stride in self.strides:
            check_range("strides", stride, 1, 1024)
        self._check_size()
        self._check_unused()

    def _check_size(self) -> None:
        needed = self.normalised or self.head == "nanodet"
        if needed != (self.size is not None):
            expected, found = ("the key", "none") if needed else ("none without normalised = true", "one")
            raise ValueError(f"key 'size': expected {expected}, found {found}")

    def _check_unused(self) -> None:
        foreign = frozenset[str]().union(*_HEAD_KEYS.values()) - _HEAD_KEYS[self.head]
        check_unused(self, foreign, f"the head '{self.head}' has no such key")
        if self.class_id_type and (self.background is not None or self.activation == "softmax"):
            raise ValueError("key 'class_id_type': expected no 'background' and no softmax beside it, found one")
