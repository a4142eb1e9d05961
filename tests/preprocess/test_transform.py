"""`meta.transform` leads back: a bright dot drawn into a photo is found where it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from services.preprocess.geometry import place
from stagemesh.plugins import Arrays

Encode = Callable[..., bytes]
Run = Callable[..., Arrays]

STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera that writes this EXIF orientation turns the upright picture before storing it."""


def draw_dot(height: int, width: int, x: float, y: float, radius: float) -> NDArray[np.uint8]:
    """A black photo with a bell of white at (x, y), integers being pixel centres."""
    rows = np.exp(-(((np.arange(height) - y) / radius) ** 2) / 2)
    columns = np.exp(-(((np.arange(width) - x) / radius) ** 2) / 2)
    grey = np.rint(255 * np.outer(rows, columns)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def find_dot(out: Arrays) -> tuple[float, float]:
    """The centre of brightness of the first image, mapped back to the photo."""
    grey = out["image"][0, ..., 0].astype(np.float64)
    grey[grey < 8] = 0
    rows, columns = np.indices(grey.shape)
    x, y = (float((axis * grey).sum() / grey.sum()) for axis in (columns, rows))
    sx, kx, ox, ky, sy, oy = out["meta.transform"][0].tolist()
    return sx * x + kx * y + ox, ky * x + sy * y + oy


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_dot_is_found_again(run: Run, encode: Encode, data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(40, 300), st.integers(40, 300)), "photo")
    size = data.draw(st.tuples(st.integers(32, 128), st.integers(32, 128)), "size")
    mode = data.draw(st.sampled_from(["stretch", "letterbox", "center_crop"]), "mode")
    interpolation = data.draw(st.sampled_from(["nearest", "linear", "cubic", "area", "lanczos"]), "interpolation")
    placement = place(mode, (height, width), size, 0.875)
    scale = max(1.0, *placement.scale)
    radius, box = 1.5 * scale, placement.source
    assume(min(box.width, box.height) > 8 * radius + 1)
    x = box.x + data.draw(st.floats(4 * radius, box.width - 1 - 4 * radius), "x")
    y = box.y + data.draw(st.floats(4 * radius, box.height - 1 - 4 * radius), "y")
    photo = encode(draw_dot(height, width, x, y, radius))
    found = find_dot(run(photo, size=list(size), resize=mode, interpolation=interpolation))
    tolerance = 0.6 if interpolation == "nearest" else 0.15  # "nearest" moves each pixel by up to a half
    assert found == pytest.approx((x, y), abs=tolerance * scale)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("mode", ["stretch", "letterbox", "center_crop"])
def test_turned_and_reduced_photos(run: Run, encode: Encode, orientation: int, reduced: bool, mode: str) -> None:
    upright = Image.fromarray(draw_dot(611, 843, 500.3, 251.6, 20))
    turn = STORED_AS[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    photo = encode(stored, "JPEG", quality=97, orientation=orientation)
    out = run(photo, size=[64, 96], resize=mode, reduced_scale=reduced)
    assert out["meta.size"].tolist() == [[611, 843]]
    assert find_dot(out) == pytest.approx((500.3, 251.6), abs=0.6)


def test_corners_of_a_stretched_photo_meet(run: Run, encode: Encode) -> None:
    out = run(encode(np.zeros((300, 500, 3), np.uint8)), size=[100, 100])
    sx, _, ox, _, sy, oy = out["meta.transform"][0].tolist()
    assert (-0.5 * sx + ox, -0.5 * sy + oy) == pytest.approx((-0.5, -0.5))
    assert (99.5 * sx + ox, 99.5 * sy + oy) == pytest.approx((499.5, 299.5), abs=1e-4)
