"""The plug-in `segment` and mask arithmetic, beside slow references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.postprocess.masks import UNSEEN, Axis, enlarge, enlarge_classes, regions
from services.preprocess.geometry import place
from stagemesh.errors import ConfigError, InvalidInput
from tests.postprocess.conftest import make, meta, peak_memory

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def slow_sample(plane: NDArray[Any], y: float, x: float) -> float:
    """Bilinear, the edge going on."""
    y, x = min(max(y, 0), plane.shape[0] - 1), min(max(x, 0), plane.shape[1] - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, plane.shape[0] - 1), min(x0 + 1, plane.shape[1] - 1)
    upper = plane[y0, x0] * (1 - (x - x0)) + plane[y0, x1] * (x - x0)
    lower = plane[y1, x0] * (1 - (x - x0)) + plane[y1, x1] * (x - x0)
    return float(upper * (1 - (y - y0)) + lower * (y - y0))


def axis(positions: NDArray[np.float64], size: int) -> Axis:
    return Axis.sample(positions, size, 1.0)


@settings(max_examples=50, deadline=None)
@given(SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_enlarge_is_the_slow_reference(plane_size: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    plane = np.random.default_rng(seed).random(plane_size, np.float32)
    down, across = (np.linspace(-0.5, side - 0.5, count) for side, count in zip(plane_size, size, strict=True))
    found = np.empty(size, np.float32)
    for block, values in enlarge(plane, axis(down, plane_size[0]), axis(across, plane_size[1])):
        found[block] = values
    np.testing.assert_allclose(found, [[slow_sample(plane, y, x) for x in across] for y in down], atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(SIDES, SIDES, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_classes_are_those_of_interpolated_logits(
    plane_size: tuple[int, int], size: tuple[int, int], classes: int, seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=(classes, *plane_size)).astype(np.float32)
    down, across = (np.linspace(-0.5, side - 0.5, count) for side, count in zip(plane_size, size, strict=True))
    found = enlarge_classes(logits, axis(down, plane_size[0]), axis(across, plane_size[1]))
    values = np.array([[[slow_sample(plane, y, x) for x in across] for y in down] for plane in logits])
    chosen = np.take_along_axis(values, found[None].astype(np.intp), axis=0)[0]
    np.testing.assert_allclose(chosen, values.max(axis=0), atol=1e-5)


def test_many_blocks_are_one_picture() -> None:
    plane = np.random.default_rng(0).random((50, 60), np.float32)
    down, across = np.linspace(-0.5, 49.5, 1000), np.linspace(-0.5, 59.5, 900)
    parts = list(enlarge(plane, axis(down, 50), axis(across, 60)))
    assert len(parts) > 3
    whole = np.concatenate([values for _, values in parts])
    assert whole.shape == (1000, 900)
    for y, x in ((0, 0), (999, 899), (145, 3), (146, 700), (500, 450)):
        assert whole[y, x] == pytest.approx(slow_sample(plane, down[y], across[x]), abs=1e-5)


def test_regions() -> None:
    classes = np.zeros((4, 6), np.uint8)
    classes[1:3, 2:5], classes[3, 0], classes[0, 5] = 7, 3, UNSEEN
    ids, shares, boxes = regions(classes, 0)
    assert (ids.tolist(), shares.tolist()) == ([7, 3], [0.25, pytest.approx(1 / 24)])
    assert boxes.tolist() == [[1.5, 0.5, 4.5, 2.5], [-0.5, 2.5, 0.5, 3.5]]
    assert regions(classes, None)[0].tolist() == [0, 7, 3]
    empty = regions(np.zeros((2, 2), np.uint8), 0)
    assert [array.shape for array in empty] == [(0,), (0,), (0, 4)]


def test_a_mask_lands_where_it_was_in_the_photo() -> None:
    photo, size = (60, 120), (64, 64)
    placement = place("letterbox", photo, size, 1.0)
    plane = np.full((1, 1, *size), -3, np.float32)
    plane[0, 0, 24:40, 8:56] = 5  # the image's rows 16 … 47 hold the photo
    inputs = {"mask": plane, **meta(placement.back().row_major(), size=photo)}
    out = make("segment", ("sky", "bird"), head="foreground", activation="minmax").run(inputs, {})
    assert out["mask"].shape == (1, *photo)
    assert out["labels"].tolist() == [[b"bird"]]
    np.testing.assert_allclose(out["boxes"], [[[14.5, 14.5, 104.5, 44.5]]], atol=1)
    assert out["shares"][0, 0] == pytest.approx(0.75 * 0.5, abs=0.02)
    assert out["alpha"].max() == 255
    assert np.array_equal(out["mask"], out["alpha"] > 127)
    assert out["size"].tolist() == [[60, 120]]
    assert out["count"].tolist() == [1]


def test_activations_and_threshold() -> None:
    plane = np.array([[[[0.0, 0.0], [2.0, 2.0]]]], np.float32)
    inputs = {"mask": plane, **meta(size=(2, 2))}
    shares = {
        name: make("segment", head="foreground", activation=name).run(inputs, {"score_threshold": 0.6})["shares"]
        for name in ("none", "sigmoid", "minmax")
    }
    assert {name: found.tolist() for name, found in shares.items()} == {name: [[0.5]] for name in shares}
    plugin = make("segment", head="foreground", activation="sigmoid")
    assert plugin.run(inputs, {"score_threshold": 0.9})["count"].tolist() == [0]
    assert plugin.run(inputs, {"score_threshold": 0.4})["shares"].tolist() == [[1.0]]
    flat = {"mask": np.full((1, 1, 2, 2), 7, np.float32), **meta(size=(2, 2))}
    assert not make("segment", head="foreground", activation="minmax").run(flat, {})["mask"].any()


def test_semantic_classes_and_what_was_not_seen() -> None:
    logits = np.zeros((1, 3, 4, 4), np.float32)
    logits[0, 1, :, 2:] = 1
    cropped = (1, 0, 2, 0, 1, 0)  # the network saw columns 2 … 5 of 8
    inputs = {"logits": logits, **meta(cropped, size=(4, 8))}
    out = make("segment", ("none", "cat", "dog"), head="semantic").run(inputs, {})
    assert out["mask"][0].tolist() == [[255, 255, 0, 0, 1, 1, 255, 255]] * 4
    assert (out["labels"].tolist(), out["shares"].tolist()) == ([[b"cat"]], [[0.25]])
    assert "alpha" not in out
    last = {**inputs, "logits": logits.transpose(0, 2, 3, 1)}
    every = make("segment", head="semantic", layout="NHWC", background=-1).run(last, {})
    assert (every["class_ids"].tolist(), every["labels"].tolist()) == ([[0, 1]], [[b"0", b"1"]])
    seen = make("segment", head="foreground").run(
        {"mask": np.ones((1, 1, 4, 4), np.float32), **meta(cropped, size=(4, 8))}, {}
    )
    assert seen["mask"][0].tolist() == [[0, 0, 1, 1, 1, 1, 0, 0]] * 4


def test_a_stride_enlarges_the_plane() -> None:
    plane = np.array([[[[0, 0], [1, 1]]]], np.float32)
    out = make("segment", head="foreground", stride=4.0).run({"mask": plane, **meta(size=(8, 8))}, {})
    assert out["boxes"].tolist() == [[[-0.5, 3.5, 7.5, 7.5]]]


def test_photos_of_two_sizes_share_a_batch() -> None:
    inputs = {"mask": np.ones((2, 1, 4, 4), np.float32), **meta((1, 0, 0, 0, 1, 0), (2, 0, 0.5, 0, 1, 0))}
    inputs["meta.size"] = np.array([[4, 4], [3, 8]], np.int32)
    out = make("segment", head="foreground").run(inputs, {})
    assert out["mask"].shape == (2, 4, 8)
    assert out["mask"].sum(axis=(1, 2)).tolist() == [16, 24]
    assert out["shares"].tolist() == [[1.0], [1.0]]


def test_bad_inputs() -> None:
    plugin = make("segment", head="foreground", max_pixels=1000)
    with pytest.raises(InvalidInput, match=r"'meta.size': expected at most 1,000 pixels, found 100 x 100"):
        plugin.run({"mask": np.ones((1, 1, 4, 4), np.float32), **meta(size=(100, 100))}, {})
    with pytest.raises(InvalidInput, match=r"input 'mask': expected finite numbers, found nan at \[0, 0, 0, 0\]"):
        plugin.run({"mask": np.full((1, 1, 4, 4), np.nan, np.float32), **meta(size=(4, 4))}, {})
    with pytest.raises(InvalidInput, match=r"input 'mask': expected pixels of 1 to 255 classes, found shape"):
        plugin.run({"mask": np.ones((1, 1, 0, 4), np.float32), **meta(size=(4, 4))}, {})
    with pytest.raises(ConfigError, match="key 'activation': the head 'semantic' has no such key"):
        make("segment", head="semantic", activation="sigmoid")
    with pytest.raises(ConfigError, match="key 'background': the head 'foreground' has no such key"):
        make("segment", head="foreground", background=1)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([[30_000, 30_000]], r"at most 50,000,000 pixels, found 30000 x 30000"),
        ([[1, 40_000_000]], r"sides of at most 100,000 pixels, found 40000000 x 1"),
        ([[6000, 8000]] * 2, r"at most 64,000,000 pixels in the masks of a request, found 2 of 8000 x 6000"),
        ([[1, 60_000], [800, 1]] * 2, r"at most 64,000,000 pixels in the masks of a request, found 4 of 60000 x 800"),
    ],
)
def test_claimed_sizes_are_refused_before_they_take_memory(sizes: list[list[int]], expected: str) -> None:
    planes = np.ones((len(sizes), 1, 4, 4), np.float32)
    inputs = {"mask": planes, "meta.transform": np.array([[1, 0, 0, 0, 1, 0]] * len(sizes), np.float32)}
    inputs["meta.size"] = np.array(sizes, np.int32)
    plugin = make("segment", head="foreground")
    with peak_memory() as peak, pytest.raises(InvalidInput, match=f"input 'meta.size': expected {expected}"):
        plugin.run(inputs, {})
    assert peak() < 1 << 20


@pytest.mark.parametrize("head", ["foreground", "semantic"])
@pytest.mark.parametrize("plane", [(200_000, 4), (4, 200_000), (4, 4)])
def test_memory_goes_with_the_planes_and_the_masks(head: str, plane: tuple[int, int]) -> None:
    name, classes = ("mask", 1) if head == "foreground" else ("logits", 2)
    planes = np.random.default_rng(0).random((1, classes, *plane), np.float32)
    size = (20, 80_000)
    inputs = {name: planes, **meta(size=size)}
    with peak_memory() as peak:
        make("segment", head=head).run(inputs, {})
    assert peak() < 64 << 20
