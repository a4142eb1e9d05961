"""What detection, segmentation and pose models found, as rows for a table and for JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagemesh.client.answers import text_of

Row = Mapping[str, NDArray[Any]]
Item = dict[str, object]


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found on one photo: `noun` in the plural, and an item for each, all with the same keys."""

    noun: str
    items: list[Item]


def findings(outputs: Mapping[str, NDArray[Any]]) -> Findings | None:
    """What the first photo shows; None where the outputs are those of no such task."""
    for noun, (names, items) in _TASKS.items():
        if names <= outputs.keys():
            return Findings(noun, items({name: array[0] for name, array in outputs.items()}))
    return None


def _keypoints(row: Row) -> list[Item]:
    persons, points = row["scores"].shape
    return [
        {
            "person": person,
            "label": text_of(row["labels"][person, point]),
            "score": _number(row["scores"][person, point], 4),
            "visible": bool(row["visible"][person, point]),
            "point": _numbers(row["keypoints"][person, point]),
        }
        for person in range(persons)
        for point in range(points)
    ]


def _regions(row: Row) -> list[Item]:
    return [
        {
            "label": text_of(row["labels"][item]),
            "class_id": int(row["class_ids"][item]),
            "share": _number(row["shares"][item], 4),
            "box": _numbers(row["boxes"][item]),
        }
        for item in range(int(row["count"]))
    ]


def _detections(row: Row) -> list[Item]:
    return [
        {
            "label": text_of(row["labels"][item]),
            "class_id": int(row["class_ids"][item]),
            "score": _number(row["scores"][item], 4),
            "box": _numbers(row["boxes"][item]),
            **({"landmarks": _numbers(row["landmarks"][item])} if "landmarks" in row else {}),
        }
        for item in range(int(row["count"]))
    ]


_TASKS: Mapping[str, tuple[set[str], Callable[[Row], list[Item]]]] = {
    "keypoints": ({"keypoints", "scores", "visible", "labels"}, _keypoints),
    "regions": ({"mask", "shares", "boxes", "labels", "class_ids", "count"}, _regions),
    "detections": ({"boxes", "scores", "labels", "class_ids", "count"}, _detections),
}


def _number(value: np.floating[Any], digits: int) -> float:
    return round(float(value), digits)


def _numbers(values: NDArray[Any]) -> object:
    """Places of any shape, to a tenth of a pixel."""
    return np.round(values.astype(np.float64), 1).tolist()
