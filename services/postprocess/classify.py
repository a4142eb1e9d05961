"""The plug-in `classify`: logits in, the best labels with their probabilities out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.postprocess.activations import softmax
from services.postprocess.labels import Labels
from services.postprocess.parameters import count
from stagemesh.errors import InvalidInput
from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays, Postprocessor
from stagemesh.repository import ModelFolder
from stagemesh.tables import check_range

MOST_CLASSES = 100_000


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """Keys of `[postprocess]` with plugin = "classify"; the request parameter `top_k` overrides `top_k`."""

    top_k: int = 5

    def __post_init__(self) -> None:
        check_range("top_k", self.top_k, 1, MOST_CLASSES)


class ClassifyPostprocessor(Postprocessor):
    """`logits` FP32 [N, C] → `labels` BYTES, `scores` FP32 (softmax) and `class_ids` INT32, each [N, k], best first.

    k is `top_k`, or C where that is less. Of equal scores the lower class id comes first. A model without labels
    answers the class ids in decimal as labels.
    """

    Options = ClassifyOptions

    def __init__(self, options: ClassifyOptions, folder: ModelFolder) -> None:
        super().__init__(options, folder)
        self._top_k = options.top_k
        self._labels = Labels(folder)

    def signature(self) -> Signature:
        """See the class; `meta.*` of the preprocess stage is accepted and not needed."""
        classes = len(self._labels) or -1
        return Signature(
            inputs=(
                TensorSpec("logits", "FP32", (-1, classes)),
                TensorSpec("meta.transform", "FP32", (-1, 6), optional=True),
                TensorSpec("meta.size", "INT32", (-1, 2), optional=True),
            ),
            outputs=(
                TensorSpec("labels", "BYTES", (-1, -1)),
                TensorSpec("scores", "FP32", (-1, -1)),
                TensorSpec("class_ids", "INT32", (-1, -1)),
            ),
        )

    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        """Raises InvalidInput for a bad `top_k`, count of classes and logits that aren't numbers."""
        logits = inputs["logits"]
        self._check_classes(logits.shape[1])
        top_k = count(parameters, "top_k", min(self._top_k, logits.shape[1]), logits.shape[1])
        _check_numbers(logits)
        class_ids = best_classes(logits, top_k)
        scores = np.take_along_axis(softmax(logits), class_ids, axis=1)
        return {"labels": self._labels.name(class_ids), "scores": scores, "class_ids": class_ids}

    def _check_classes(self, found: int) -> None:
        expected = f"{len(self._labels)} classes, the labels of model '{self.folder.name}'"
        fits = found == len(self._labels)
        if not len(self._labels):
            expected, fits = f"1 to {MOST_CLASSES:,} classes", 1 <= found <= MOST_CLASSES
        if not fits:
            raise InvalidInput(f"input 'logits': expected {expected}, found {found}")


def best_classes(logits: NDArray[np.float32], top_k: int) -> NDArray[np.int32]:
    """Class ids [N, top_k] of the largest logits [N, C], best first, the lower id first among equals.

    Logit and class id make one integer key, so that no two are equal and a partial sort has one answer.
    """
    bits = (logits + np.float32(0)).view(np.int32)  # adding 0 turns -0 into 0
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    keys = (-1 - ordered) << 32 | np.arange(logits.shape[1])
    if top_k < logits.shape[1]:
        keys = np.partition(keys, top_k - 1, axis=1)[:, :top_k]
    keys.sort(axis=1)
    return (keys & 0xFFFFFFFF).astype(np.int32)


def _check_numbers(logits: NDArray[np.float32]) -> None:
    best = logits.max(axis=1)
    bad = np.flatnonzero(~np.isfinite(best))
    if bad.size:
        raise InvalidInput(
            f"input 'logits': expected finite numbers, found {best[bad[0]]} as the largest of row {bad[0]}",
            reason="NOT_FINITE",
        )
