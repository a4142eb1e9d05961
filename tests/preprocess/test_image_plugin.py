"""The plug-in `image` as a stage calls it: options, outputs, errors."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from services.preprocess.image import ImagePreprocessor
from services.preprocess.registry import PREPROCESSORS
from stagemesh.errors import ConfigError, InvalidInput
from stagemesh.plugins import Arrays, load_plugin
from stagemesh.repository import read_model, split_batching

Encode = Callable[..., bytes]
Read = Callable[[str], bytes]
Run = Callable[..., Arrays]

CLASSIFY = {"size": [224, 224], "resize": "center_crop", "interpolation": "cubic"}


def test_the_shipped_model_loads_and_crops_as_the_recipe_says(photo: Read) -> None:
    model = read_model(Path(__file__).parents[2] / "models/classify")
    _, table = split_batching(model.table("preprocess"), model.where("preprocess"))
    plugin = load_plugin("preprocess", model, table, PREPROCESSORS)
    assert isinstance(plugin, ImagePreprocessor)
    out = plugin.run({"image": np.array([photo("coffee.png")], object)}, {})
    coffee = np.asarray(Image.open(io.BytesIO(photo("coffee.png"))).convert("RGB"))
    expected = cv2.resize(coffee[25:375, 125:475], (224, 224), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(out["image"][0], expected)
    assert out["meta.size"].tolist() == [[400, 600]]
    assert out["meta.transform"].tolist() == [[1.5625, 0, 125.28125, 0, 1.5625, 25.28125]]


@pytest.mark.parametrize(
    ("name", "left", "top", "side"),
    [("china.jpg", 134, 27, 373), ("chelsea.png", 95, 19, 262), ("astronaut.png", 32, 32, 448)],
)
def test_crop_offsets_are_rounded_half_up(photo: Read, run: Run, name: str, left: int, top: int, side: int) -> None:
    transform = run(photo(name), **CLASSIFY)["meta.transform"][0]
    scale = side / 224
    assert transform == pytest.approx([scale, 0, left + scale / 2 - 0.5, 0, scale, top + scale / 2 - 0.5])


def test_datatypes_and_shapes_of_a_batch(photo: Read, run: Run) -> None:
    out = run(photo("coffee.png"), photo("rocket.jpg"), photo("astronaut.png"), size=[48, 64])
    found = {name: (array.dtype.name, array.shape) for name, array in out.items()}
    assert found == {
        "image": ("uint8", (3, 48, 64, 3)),
        "meta.transform": ("float32", (3, 6)),
        "meta.size": ("int32", (3, 2)),
    }
    assert out["meta.size"].tolist() == [[400, 600], [427, 640], [512, 512]]


def test_letterbox_is_centred_on_pad(run: Run, encode: Encode) -> None:
    out = run(encode(np.full((20, 40, 3), 200, np.uint8)), size=[80, 80], resize="letterbox", pad=114)
    rows = out["image"][0, :, 0, 0]
    assert (rows[:20] == 114).all()
    assert (rows[20:60] == 200).all()
    assert (rows[60:] == 114).all()
    assert out["meta.transform"][0].tolist() == [0.5, 0, -0.25, 0, 0.5, -10.25]


@pytest.mark.parametrize(
    ("size", "keys", "expected"),
    [
        ((300, 451), {}, (320, 480)),
        ((320, 480), {}, (320, 480)),
        ((1, 1), {}, (32, 32)),
        ((300, 450), {"max_side": 150}, (128, 160)),
        ((450, 30), {"max_side": 96, "resize": "letterbox"}, (96, 32)),
    ],
)
def test_dynamic_size(run: Run, encode: Encode, size: Any, keys: Any, expected: Any) -> None:
    out = run(encode(np.zeros((*size, 3), np.uint8)), multiple_of=32, **keys)
    assert out["image"].shape == (1, *expected, 3)


def test_photos_of_a_dynamic_batch_must_agree(photo: Read, run: Run) -> None:
    assert run(photo("rocket.jpg"), photo("china.jpg"), multiple_of=32)["image"].shape == (2, 448, 640, 3)
    with pytest.raises(InvalidInput) as raised:
        run(photo("rocket.jpg"), photo("coffee.png"), multiple_of=32)
    expected = "image[1] of 2: expected a photo that comes to 640 x 448 pixels as image[0] does, found one that comes"
    assert expected in str(raised.value)


def test_errors_name_the_photo_and_keep_their_reason(photo: Read, run: Run) -> None:
    with pytest.raises(InvalidInput, match=r"^image\[2\] of 3: expected a JPEG, .* found 4 bytes") as raised:
        run(photo("coffee.png"), photo("rocket.jpg"), b"oops", size=[8, 8])
    assert raised.value.reason == "IMAGE_FORMAT"
    with pytest.raises(InvalidInput, match="expected at most 1,000 pixels, found 600 x 400 = 240,000"):
        run(photo("coffee.png"), size=[8, 8], max_pixels=1000)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_fp32_is_normalised_here(photo: Read, run: Run, layout: str, channels: str) -> None:
    mean, std = [123.5, 110.0, 90.25], [58.0, 57.5, 56.0]
    keys = {"dtype": "fp32", "layout": layout, "channels": channels, "mean": mean, "std": std}
    found = run(photo("coffee.png"), photo("rocket.jpg"), size=[31, 47], **keys)["image"]
    images = run(photo("coffee.png"), photo("rocket.jpg"), size=[31, 47])["image"]
    ordered = images[..., ::-1] if channels == "BGR" else images
    expected = (ordered.astype(np.float64) - mean) / std
    expected = expected.transpose(0, 3, 1, 2) if layout == "NCHW" else expected
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, expected.astype(np.float32))


def test_reduced_scale_keeps_enough_pixels(photo: Read, run: Run) -> None:
    full = run(photo("rocket.jpg"), size=[96, 96])
    small = run(photo("rocket.jpg"), size=[96, 96], reduced_scale=True)
    assert small["meta.size"].tolist() == full["meta.size"].tolist()
    assert not np.array_equal(small["image"], full["image"])
    assert np.abs(small["image"].astype(int) - full["image"]).mean() < 12
    # At 320 x 320 a half of 427 rows would be too few: the photo is decoded in full.
    same = [run(photo("rocket.jpg"), size=[320, 320], reduced_scale=on)["image"] for on in (False, True)]
    assert np.array_equal(*same)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40_000), (40_000, 1), (3, 2)])
@pytest.mark.parametrize("resize", ["stretch", "letterbox", "center_crop"])
@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic", "area", "lanczos"])
def test_photos_of_extreme_shape(run: Run, encode: Encode, shape: Any, resize: str, interpolation: str) -> None:
    data = encode(np.full((*shape, 3), 99, np.uint8))
    out = run(data, size=[16, 24], resize=resize, interpolation=interpolation, pad=99)
    assert (out["image"] == 99).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "expected one of the keys 'size' and 'multiple_of', found both or none"),
        ({"size": [8, 8], "multiple_of": 32}, "expected one of the keys 'size' and 'multiple_of'"),
        ({"size": [0, 8]}, "key 'size': expected 1 to 16384, found 0"),
        ({"size": 8}, "key 'size': expected a list of 2, each item an integer, found 8"),
        ({"size": [8, 8], "resize": "squash"}, "key 'resize': expected one of 'stretch', 'letterbox', 'center_crop'"),
        ({"multiple_of": 8, "resize": "center_crop"}, "key 'resize': expected 'stretch' or 'letterbox'"),
        ({"multiple_of": -8}, "key 'multiple_of': expected 0 to 1024, found -8"),
        ({"size": [8, 8], "crop_ratio": 0}, "key 'crop_ratio': expected 0.01 to 1.0, found 0"),
        ({"size": [8, 8], "pad": 300}, "key 'pad': expected 0 to 255, found 300"),
        ({"size": [8, 8], "background": [0, 0, 256]}, "key 'background': expected 0 to 255, found 256"),
        ({"size": [8, 8], "max_pixels": 0}, "key 'max_pixels'"),
        ({"size": [8, 8], "mean": [1, 2, 3]}, "key 'mean': expected only with dtype = 'fp32'"),
        ({"size": [8, 8], "dtype": "fp32", "std": [1, 0, 1]}, "key 'std': expected no zero"),
        ({"size": [8, 8], "dtype": "fp16"}, "key 'dtype': expected one of 'uint8', 'fp32'"),
    ],
)
def test_bad_options(run: Run, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        run(**keys)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "datatype", "shape"),
    [
        ({"size": [4, 6]}, "UINT8", (-1, 4, 6, 3)),
        ({"multiple_of": 32}, "UINT8", (-1, -1, -1, 3)),
        ({"size": [4, 6], "dtype": "fp32"}, "FP32", (-1, 3, 4, 6)),
        ({"size": [4, 6], "dtype": "fp32", "layout": "NHWC"}, "FP32", (-1, 4, 6, 3)),
    ],
)
def test_signature(keys: dict[str, Any], datatype: str, shape: tuple[int, ...]) -> None:
    model = read_model(Path(__file__).parents[2] / "models/classify")
    signature = load_plugin("preprocess", model, {"plugin": "image", **keys}, PREPROCESSORS).signature()
    assert [(spec.name, spec.datatype, spec.shape) for spec in signature.inputs] == [("image", "BYTES", (-1,))]
    image, transform, size = signature.outputs
    assert (image.name, image.datatype, image.shape) == ("image", datatype, shape)
    assert (transform.name, transform.datatype, transform.shape) == ("meta.transform", "FP32", (-1, 6))
    assert (size.name, size.datatype, size.shape) == ("meta.size", "INT32", (-1, 2))
