"""Normalisation beside the same arithmetic in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from services.infer.normalise import Normaliser
from services.infer.table import InferTable
from stagemesh.errors import ConfigError
from stagemesh.tables import parse_table

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
IMAGES = np.random.default_rng(3).integers(0, 200, (3, 5, 4, 3), np.uint8)


def normalise(images: NDArray[np.uint8], **keys: object) -> NDArray[np.generic]:
    table = parse_table(InferTable, {"source": "w.pth", "arch": "file:n.py:n", "outputs": ["y"], **keys}, "[infer]")
    return Normaliser(table, torch.device("cpu"))(torch.from_numpy(images)).numpy()


def test_channel_order_and_layout() -> None:
    found = normalise(IMAGES, channels="BGR", mean=MEAN, std=STD)
    expected = (IMAGES[..., ::-1] - np.array(MEAN)) / np.array(STD)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


def test_scale_max_is_by_image() -> None:
    found = normalise(IMAGES, scale="max", layout="NHWC", mean=MEAN, std=STD)
    share = IMAGES / IMAGES.max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found, (share - np.array(MEAN) / 255) / (np.array(STD) / 255), rtol=1e-4, atol=1e-5)


def test_a_black_image_stays_finite() -> None:
    assert not normalise(np.zeros((1, 2, 2, 3), np.uint8), scale="max").any()


def test_int32_hands_the_values_over() -> None:
    found = normalise(IMAGES, dtype="int32", layout="NHWC")
    assert found.dtype == np.int32
    assert np.array_equal(found, IMAGES)


@pytest.mark.parametrize("keys", [{"mean": MEAN}, {"std": STD}, {"scale": "max"}])
def test_int32_has_no_normalisation(keys: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="key 'dtype': expected no mean, std and scale beside 'int32'"):
        normalise(IMAGES, dtype="int32", **keys)
