"""Boxes and their suppression beside slow references in plain Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.postprocess.boxes import areas, overlaps, to_corners
from services.postprocess.nms import MOST_CANDIDATES, best_first, suppress

Box = tuple[int, int, int, int]
# Few places and scores, so that boxes overlap a lot, touch, have no area, and tie.
SIDE = st.integers(0, 6)
BOX = st.tuples(SIDE, SIDE, SIDE, SIDE).map(
    lambda s: (min(s[0], s[2]), min(s[1], s[3]), max(s[0], s[2]), max(s[1], s[3]))
)
DETECTION = st.tuples(BOX, st.integers(1, 5), st.integers(0, 2))


def slow_overlap(a: Box, b: Box) -> Fraction:
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return Fraction(width * height, union) if union else Fraction(0)


def slow_suppress(found: list[tuple[Box, int, int]], tenths: int, limit: int) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(found)), key=lambda i: (-found[i][1], i)):
        box, _, class_id = found[index]
        covered = [slow_overlap(box, found[k][0]) > Fraction(tenths, 10) for k in kept if found[k][2] == class_id]
        if not any(covered):
            kept.append(index)
    return kept[:limit]


@settings(max_examples=300, deadline=None)
@given(st.lists(DETECTION, max_size=30), st.integers(0, 10), st.integers(1, 10))
def test_suppress_is_the_slow_reference(found: list[tuple[Box, int, int]], tenths: int, limit: int) -> None:
    boxes = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
    scores = np.array([score / 8 for _, score, _ in found], np.float32)
    class_ids = np.array([class_id for _, _, class_id in found], np.int32)
    kept = suppress(boxes, scores, class_ids, tenths / 10, limit)
    assert kept.tolist() == slow_suppress(found, tenths, limit)


@given(BOX, st.lists(BOX, min_size=1, max_size=10))
def test_overlaps_is_the_slow_reference(box: Box, boxes: list[Box]) -> None:
    found = overlaps(np.array(box, np.float32), np.array(boxes, np.float32))
    np.testing.assert_allclose(found, [float(slow_overlap(box, other)) for other in boxes], rtol=1e-6)


def test_areas() -> None:
    boxes = np.array([[0, 0, 2, 3], [1, 1, 1, 9], [5, 5, 4, 4]], np.float32)
    assert areas(boxes).tolist() == [6, 0, 0]


def test_box_formats() -> None:
    corners = np.array([[10, 20, 30, 60]], np.float32)
    assert np.array_equal(to_corners(corners, "xyxy"), corners)
    assert np.array_equal(to_corners(corners[:, [1, 0, 3, 2]], "yxyx"), corners)
    assert np.array_equal(to_corners(np.array([[10, 20, 20, 40]], np.float32), "xywh"), corners)
    assert np.array_equal(to_corners(np.array([[20, 40, 20, 40]], np.float32), "cxcywh"), corners)


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 40))
def test_best_first_is_a_stable_sort(scores: list[int], limit: int) -> None:
    expected = sorted(range(len(scores)), key=lambda index: -scores[index])[:limit]
    assert best_first(np.array(scores, np.float32), limit).tolist() == expected


def test_of_too_many_boxes_the_best_are_considered() -> None:
    for count, kept in ((MOST_CANDIDATES, [0, MOST_CANDIDATES - 1]), (MOST_CANDIDATES + 1, [0])):
        boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1))
        boxes[-1] += 5
        scores = np.linspace(0.9, 0.1, count, dtype=np.float32)
        assert suppress(boxes, scores, np.zeros(count, np.int32), 0.5, 10).tolist() == kept
