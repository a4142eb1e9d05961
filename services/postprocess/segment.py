"""The plug-in `segment`: what a segmentation network gives in, the class of each pixel of the photo out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.postprocess.activations import sigmoid
from services.postprocess.finite import check_finite
from services.postprocess.labels import Labels
from services.postprocess.masks import UNSEEN, Axis, Bytes, Floats, enlarge, enlarge_classes, regions, stretch
from services.postprocess.parameters import share
from services.postprocess.photo_map import META, PhotoMap
from stagemesh.errors import InvalidInput
from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays, Postprocessor
from stagemesh.repository import ModelFolder
from stagemesh.tables import check_range, check_unused

MOST_MASK_PIXELS = 64_000_000
"""Of all masks of an answer, which are as large as the photos, and those as large as the client says."""
MOST_SIDE = 100_000


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """Keys of `[postprocess]` with plugin = "segment"; a request parameter `score_threshold` overrides that key.

    head = "foreground": one plane. `activation` brings its values to 0 … 1: "minmax" stretches each photo's plane,
    "sigmoid" takes logits. What is above `score_threshold` is class 1, the rest class 0.

    head = "semantic": a plane for each class; the class with the largest value wins. `background` is the class that
    is no finding, -1 for none.

    `stride` is how many pixels of the network's image a value stands for along each side. `max_pixels` bounds a photo,
    besides MOST_SIDE; MOST_MASK_PIXELS bounds those of a request.
    """

    head: Literal["foreground", "semantic"]
    activation: Literal["none", "sigmoid", "minmax"] = "none"
    score_threshold: float = 0.5
    background: int = 0
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    stride: float = 1.0
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        check_range("score_threshold", self.score_threshold, 0.0, 1.0)
        check_range("background", self.background, -1, UNSEEN - 1)
        check_range("stride", self.stride, 0.01, 1024.0)
        check_range("max_pixels", self.max_pixels, 1, MOST_MASK_PIXELS)
        foreign = "activation" if self.head == "semantic" else "background"
        check_unused(self, {foreign}, f"the head '{self.head}' has no such key")


@dataclass(frozen=True, slots=True)
class _Segmented:
    """One photo: `mask` [H, W]; for each of the K classes on it `class_ids`, `shares` and `boxes`."""

    mask: Bytes
    alpha: Bytes | None
    class_ids: NDArray[np.int32]
    shares: Floats
    boxes: Floats


class SegmentPostprocessor(Postprocessor):
    """`mask` FP32 [N, 1, h, w] (foreground) or `logits` FP32 [N, C, h, w] (semantic), and `meta.*` → classes of pixels.

    `mask` UINT8 [N, H, W], at the photo's pixels: the class; 255 where the network was not shown the photo, 0 with
    head = "foreground". `alpha` UINT8 [N, H, W], foreground only: how sure, 0 … 255. `size` INT32 [N, 2]: height and
    width of the photo; H and W are the largest of the batch, beyond a photo's own all is 0. For the classes found, the
    largest first: `class_ids` INT32 [N, K], `labels` BYTES [N, K], `shares` FP32 [N, K] of the photo's pixels,
    `boxes` FP32 [N, K, 4]; `count` INT32 [N] are a photo's own, the rest is filled up as `detect` does.
    """

    Options = SegmentOptions

    def __init__(self, options: SegmentOptions, folder: ModelFolder) -> None:
        super().__init__(options, folder)
        self._options = options
        self._labels = Labels(folder)
        self._foreground = options.head == "foreground"
        self._input = "mask" if self._foreground else "logits"

    def signature(self) -> Signature:
        """See the class."""
        planes = 1 if self._foreground else len(self._labels) or -1
        shape = (-1, planes, -1, -1) if self._options.layout == "NCHW" else (-1, -1, -1, planes)
        outputs = [
            TensorSpec("mask", "UINT8", (-1, -1, -1)),
            TensorSpec("size", "INT32", (-1, 2)),
            TensorSpec("class_ids", "INT32", (-1, -1)),
            TensorSpec("labels", "BYTES", (-1, -1)),
            TensorSpec("shares", "FP32", (-1, -1)),
            TensorSpec("boxes", "FP32", (-1, -1, 4)),
            TensorSpec("count", "INT32", (-1,)),
        ]
        if self._foreground:
            outputs.insert(1, TensorSpec("alpha", "UINT8", (-1, -1, -1)))
        return Signature((TensorSpec(self._input, "FP32", shape), *META), tuple(outputs))

    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        """Raises InvalidInput for bad parameters, sizes and maps, and for NaN."""
        threshold = share(parameters, "score_threshold", self._options.score_threshold)
        planes = inputs[self._input]
        if self._options.layout == "NHWC":
            planes = planes.transpose(0, 3, 1, 2)
        self._check_planes(planes)
        self._check_sizes(inputs["meta.size"])
        segmented = [
            self._segment(planes[index], photo, threshold) for index, photo in enumerate(PhotoMap.read(inputs))
        ]
        return self._pack(segmented)

    def _check_planes(self, planes: Floats) -> None:
        check_finite(self._input, planes)
        if 0 in planes.shape or planes.shape[1] > UNSEEN:
            raise InvalidInput(
                f"input '{self._input}': expected pixels of 1 to {UNSEEN} classes, found shape {list(planes.shape)}"
            )

    def _check_sizes(self, sizes: NDArray[np.int32]) -> None:
        height, width = (int(side) for side in sizes.max(axis=0))
        expected = ""
        if height * width > self._options.max_pixels:
            expected = f"at most {self._options.max_pixels:,} pixels"
        elif max(height, width) > MOST_SIDE:
            expected = f"sides of at most {MOST_SIDE:,} pixels"
        elif len(sizes) * height * width > MOST_MASK_PIXELS:
            expected = f"at most {MOST_MASK_PIXELS:,} pixels in the masks of a request"
        if expected:
            photos = f"{len(sizes)} of " if len(sizes) > 1 else ""
            raise InvalidInput(f"input 'meta.size': expected {expected}, found {photos}{width} x {height}")

    def _segment(self, planes: Floats, photo: PhotoMap, threshold: float) -> _Segmented:
        stride = self._options.stride
        across, down = photo.network_axes()
        rows = Axis.sample(down, planes.shape[1], stride)
        columns = Axis.sample(across, planes.shape[2], stride)
        if self._foreground:
            mask, alpha = self._cut_out(planes[0], rows, columns, threshold)
            return _Segmented(mask, alpha, *regions(mask, 0))
        mask = enlarge_classes(planes, rows, columns)
        background = self._options.background
        return _Segmented(mask, None, *regions(mask, background if background >= 0 else None))

    def _cut_out(self, plane: Floats, rows: Axis, columns: Axis, threshold: float) -> tuple[Bytes, Bytes]:
        if self._options.activation != "none":
            plane = stretch(plane) if self._options.activation == "minmax" else sigmoid(plane)
        mask, alpha = (np.empty((len(rows), len(columns)), np.uint8) for _ in range(2))
        for block, values in enlarge(np.clip(plane, 0, 1), rows, columns):
            mask[block] = values > threshold
            alpha[block] = np.rint(values * 255)
        return mask, alpha

    def _pack(self, segmented: Sequence[_Segmented]) -> Arrays:
        sizes = np.array([photo.mask.shape for photo in segmented], np.int32)
        counts = np.array([len(photo.class_ids) for photo in segmented], np.int32)
        rows = len(segmented), int(counts.max())
        packed: Arrays = {"mask": _stack([photo.mask for photo in segmented])}
        if self._foreground:
            packed["alpha"] = _stack([photo.alpha for photo in segmented if photo.alpha is not None])
        packed |= {
            "size": sizes,
            "class_ids": np.full(rows, -1, np.int32),
            "labels": np.full(rows, b"", object),
            "shares": np.zeros(rows, np.float32),
            "boxes": np.zeros((*rows, 4), np.float32),
            "count": counts,
        }
        for index, photo in enumerate(segmented):
            for name in ("class_ids", "shares", "boxes"):
                packed[name][index, : counts[index]] = getattr(photo, name)
            packed["labels"][index, : counts[index]] = self._labels.name(photo.class_ids)
        return packed


def _stack(maps: Sequence[Bytes]) -> Bytes:
    """Maps [H, W] as one array, those that are smaller filled up with 0."""
    if len(maps) == 1:
        return maps[0][None]
    height, width = (max(sides) for sides in zip(*(single.shape for single in maps), strict=True))
    stacked = np.zeros((len(maps), height, width), np.uint8)
    for index, single in enumerate(maps):
        stacked[index, : single.shape[0], : single.shape[1]] = single
    return stacked
