"""The request parameter `crop`: only that part is looked at, and the way back leads to the whole photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.preprocess.image import ImageOptions, ImagePreprocessor
from stagemesh.errors import InvalidInput
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays
from stagemesh.repository import ModelFolder
from stagemesh.tables import parse_table
from tests.preprocess.conftest import Encode

PIXELS = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8)


def preprocess(photo: bytes, crop: Parameter, **keys: object) -> Arrays:
    options = parse_table(ImageOptions, keys, "m.toml [preprocess]")
    plugin = ImagePreprocessor(options, ModelFolder("m", Path("m"), "custom", (), {}))
    return plugin.run({"image": np.array([photo], object)}, {"crop": crop})


def test_the_crop_is_what_a_cropped_photo_gives(encode: Encode) -> None:
    whole = preprocess(encode(PIXELS), "10,5,58,45", size=[32, 32], resize="letterbox")
    alone = preprocess(encode(PIXELS[5:45, 10:58]), "0,0,48,40", size=[32, 32], resize="letterbox")
    assert np.array_equal(whole["image"], alone["image"])
    assert (whole["meta.transform"] - alone["meta.transform"]).tolist() == [[0, 0, 10, 0, 0, 5]]
    assert whole["meta.size"].tolist() == [[60, 80]]


def test_a_dynamic_size_is_that_of_the_crop(encode: Encode) -> None:
    out = preprocess(encode(PIXELS), "16, 8, 48, 40", multiple_of=32)
    assert np.array_equal(out["image"][0], PIXELS[8:40, 16:48])
    assert out["meta.transform"].tolist() == [[1, 0, 16, 0, 1, 8]]


def test_a_crop_is_decoded_in_full(encode: Encode) -> None:
    photo = encode(PIXELS, "JPEG")
    keys = {"size": [8, 8], "interpolation": "area"}
    reduced = preprocess(photo, "0,0,64,48", reduced_scale=True, **keys)
    assert np.array_equal(reduced["image"], preprocess(photo, "0,0,64,48", **keys)["image"])


@pytest.mark.parametrize("crop", ["", "1,2,3", "1,2,3,4,5", "5,5,5,9", "9,0,1,5", "-1,0,4,4", "1.5,0,4,4", 7, True])
def test_bad_crop(encode: Encode, crop: Parameter) -> None:
    with pytest.raises(InvalidInput, match=r"^parameter 'crop': expected 'x1,y1,x2,y2' with x1 < x2 and y1 < y2"):
        preprocess(encode(PIXELS), crop, size=[8, 8])


@pytest.mark.parametrize("crop", ["0,0,81,60", "0,0,80,61", "100,0,110,10"])
def test_a_crop_beyond_the_photo(encode: Encode, crop: str) -> None:
    with pytest.raises(InvalidInput, match=rf"image\[0\] of 1: .*inside the photo of 80 x 60, found {crop}$"):
        preprocess(encode(PIXELS), crop, size=[8, 8])
