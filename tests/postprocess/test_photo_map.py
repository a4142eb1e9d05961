"""From the network's image back to the photo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.postprocess.photo_map import PhotoMap
from services.preprocess.geometry import place
from stagemesh.errors import InvalidInput
from tests.postprocess.conftest import meta

SIDES = st.tuples(st.integers(20, 900), st.integers(20, 900))


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES, st.sampled_from(["stretch", "letterbox", "center_crop"]), st.data())
def test_boxes_and_points_come_back(
    photo: tuple[int, int], size: tuple[int, int], mode: str, data: st.DataObject
) -> None:
    placement = place(mode, photo, size, 0.9)  # type: ignore[arg-type]
    back = placement.back()
    share = st.floats(0.0, 1.0)
    part = np.array([data.draw(share) for _ in range(4)]).reshape(2, 2)
    source = placement.source
    corners = np.sort(part, axis=0) * [source.width, source.height] + [source.x, source.y] - 0.5
    in_network = (corners - [back.ox, back.oy]) / [back.sx, back.sy]
    (found,) = PhotoMap.read(meta(back.row_major(), size=photo))
    np.testing.assert_allclose(found.points(in_network), corners, atol=2e-3)
    np.testing.assert_allclose(found.boxes(in_network.reshape(1, 4))[0], corners.ravel(), atol=2e-3)
    across, down = found.network_axes()
    np.testing.assert_allclose(across[[0, -1]] * back.sx + back.ox, [0, photo[1] - 1], atol=2e-3)
    assert (len(down), len(across)) == photo


def test_boxes_end_at_the_edges_of_the_photo() -> None:
    (photo,) = PhotoMap.read(meta(size=(10, 20)))
    assert photo.boxes(np.array([[-5, -5, 50, 50]])).tolist() == [[-0.5, -0.5, 19.5, 9.5]]
    assert photo.points(np.array([[-5, 50]])).tolist() == [[-5, 50]]


def test_a_turned_box_becomes_its_bounds() -> None:
    (photo,) = PhotoMap.read(meta((0, -1, 50, 1, 0, 0)))
    assert photo.boxes(np.array([[10, 20, 14, 26]])).tolist() == [[24, 10, 30, 14]]
    with pytest.raises(InvalidInput, match=r"'meta.transform': expected a map without rotation"):
        photo.network_axes()


@pytest.mark.parametrize("transform", [(np.nan, 0, 0, 0, 1, 0), (0, 0, 0, 0, 1, 0), (1, 0, np.inf, 0, 1, 0)])
def test_a_map_that_is_none(transform: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"'meta.transform', row 1: expected an invertible 2x3 matrix, found"):
        PhotoMap.read(meta((1, 0, 0, 0, 1, 0), transform))


def test_a_photo_without_pixels() -> None:
    with pytest.raises(InvalidInput, match=r"'meta.size', row 0: expected sides of 1 or more, found \[0, 5\]"):
        PhotoMap.read(meta(size=(0, 5)))
