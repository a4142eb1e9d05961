"""Drawing on photos of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stagemesh.draw.canvas import Canvas, grown
from stagemesh.draw.colours import WHITE, class_colour, text_on

RED = (255, 0, 0)
PLACE = st.floats(-50, 1500, allow_nan=False)


def canvas(width: int, height: int) -> Canvas:
    return Canvas(Image.new("RGB", (width, height), (90, 90, 90)))


def relative_luminance(colour: tuple[int, int, int]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (level / 255 for level in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_on_every_class() -> None:
    for class_id in range(300):
        a, b = (relative_luminance(colour) for colour in (class_colour(class_id), text_on(class_colour(class_id))))
        assert (max(a, b) + 0.05) / (min(a, b) + 0.05) >= 4.0, class_id


def test_neighbouring_classes_differ() -> None:
    colours = np.array([class_colour(class_id) for class_id in range(12)], float)
    distances = np.abs(colours[:, None] - colours[None]).sum(axis=2) + np.eye(12) * 999
    assert distances.min() > 50


def test_a_box_is_drawn_on_its_edges() -> None:
    drawn = canvas(800, 600)
    drawn.box((99.5, 49.5, 299.5, 199.5), RED)
    pixels = np.asarray(drawn.image)
    assert all(tuple(pixels[y, x]) == RED for y, x in ((50, 200), (199, 200), (100, 100), (100, 299)))
    assert tuple(pixels[49, 200]) == (0, 0, 0)
    assert tuple(pixels[100, 200]) == tuple(pixels[40, 40]) == (90, 90, 90)


def test_sizes_follow_the_photo() -> None:
    assert canvas(640, 480).line_width < canvas(4000, 3000).line_width < canvas(12_000, 9_000).line_width
    assert canvas(40, 30).image.size == (480, 360)
    assert canvas(481, 30).image.size == (481, 30)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 1500), st.integers(1, 1500), st.lists(st.tuples(PLACE, PLACE, PLACE, PLACE), max_size=6), st.text()
)
def test_whatever_is_drawn_labels_stay_inside(
    width: int, height: int, boxes: list[tuple[float, float, float, float]], text: str
) -> None:
    drawn = canvas(width, height)
    for box in boxes:
        drawn.box(box, RED)
        drawn.line(box[:2], box[2:], RED)
        drawn.dot(box[:2], RED)
        plate = drawn.label(text, box, RED)
        assert plate[0] >= 0 and plate[1] >= 0
        if len(text) < 2 or width * height > 10_000:
            assert plate[0] + 1 <= drawn.image.width
    drawn.list([text] * 50, [RED] * 50)


def test_labels_of_one_box_do_not_cover_one_another() -> None:
    drawn = canvas(800, 600)
    a, b, c = (drawn.label("person 0.99", (300, 300, 500, 500), RED) for _ in range(3))
    for first, second in ((a, b), (b, c), (a, c)):
        assert first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]


def test_a_long_label_is_cut() -> None:
    left, _, right, _ = canvas(500, 400).label("word " * 100, (0, 0, 10, 10), RED)
    assert (left, right <= 500) == (0, True)


def test_a_tint_covers_the_mask_and_no_more() -> None:
    drawn = canvas(600, 600)
    inside = np.zeros((600, 600), bool)
    inside[200:400, 200:400] = True
    drawn.tint(inside, RED)
    pixels = np.asarray(drawn.image)
    assert pixels[300, 300].tolist() == pytest.approx([164, 50, 50], abs=2)
    assert tuple(pixels[300, 199]) == RED
    assert (pixels == WHITE).all(axis=2)[:200].any()
    assert tuple(pixels[300, 180]) == tuple(pixels[10, 10]) == (90, 90, 90)


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3))
def test_grown_reaches_so_far(row: int, column: int, reach: int) -> None:
    inside = np.zeros((7, 7), bool)
    inside[row, column] = True
    expected = np.zeros((7, 7), bool)
    expected[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
    assert np.array_equal(grown(inside, reach), expected)
