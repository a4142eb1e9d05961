"""Answers of each task drawn onto a photo."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.postprocess.registry import POSTPROCESSORS
from stagemesh.draw import check_path, draw, save
from stagemesh.draw.colours import LEFT, class_colour
from stagemesh.errors import ConfigError, InvalidInput
from stagemesh.plugins import Arrays, load_plugin
from stagemesh.repository import ModelFolder

GREY = (90, 90, 90)
SIZE = (600, 800)


def photo(orientation: int = 1) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    size = SIZE if orientation >= 5 else SIZE[::-1]
    Image.new("RGB", size, GREY).save(file, "png", exif=exif.tobytes())
    return file.getvalue()


def answer(plugin: str, labels: tuple[str, ...], inputs: Arrays, **keys: object) -> Arrays:
    folder = ModelFolder("m", Path("m"), "custom", labels, {})
    meta = {
        "meta.transform": np.array([[1, 0, 0, 0, 1, 0]], np.float32),
        "meta.size": np.array([SIZE], np.int32),
    }
    made = load_plugin("postprocess", folder, {"plugin": plugin, **keys}, POSTPROCESSORS)
    return made.run({**inputs, **meta}, {})


def boxes() -> Arrays:
    rows = np.array([[[100, 200, 300, 400, 0.9, 1]]], np.float32)
    return answer("detect", ("ant", "bee"), {"predictions": rows}, head="yolov10")


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


def test_boxes_have_the_colour_of_their_class() -> None:
    drawn = pixels(draw(photo(), boxes()))
    assert tuple(drawn[300, 100]) == tuple(drawn[399, 200]) == class_colour(1)
    assert tuple(drawn[300, 200]) == GREY
    assert (drawn[:200] != GREY).any(), "the label lies above the box"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_photo_is_drawn_upright(orientation: int) -> None:
    drawn = draw(photo(orientation), boxes())
    assert drawn.size == SIZE[::-1]
    assert tuple(pixels(drawn)[300, 100]) == class_colour(1)


def test_landmarks_are_dots() -> None:
    found = {**boxes(), "landmarks": np.array([[[[200, 300], [250, 350]]]], np.float32)}
    drawn = pixels(draw(photo(), found))
    assert tuple(drawn[300, 200]) == tuple(drawn[350, 250]) == class_colour(1)


def test_rows_that_fill_a_batch_up_are_not_drawn() -> None:
    two = {name: np.concatenate([array, np.zeros_like(array)]) for name, array in boxes().items()}
    assert (pixels(draw(photo(), two, index=1)) == GREY).all()
    assert (pixels(draw(photo(), two)) != GREY).any()


def test_masks_are_tinted() -> None:
    plane = np.zeros((1, 1, *SIZE), np.float32)
    plane[0, 0, 200:400, 300:500] = 1
    found = answer("segment", ("ground", "thing"), {"mask": plane}, head="foreground")
    drawn = pixels(draw(photo(), found))
    assert tuple(drawn[300, 400]) != GREY
    assert tuple(drawn[500, 700]) == GREY
    with pytest.raises(InvalidInput, match="expected the photo that was answered, 800 x 600 pixels, found 8 x 6"):
        draw(png(Image.new("RGB", (8, 6))), found)


def test_skeletons_join_visible_points_only() -> None:
    labels = ("left shoulder", "left elbow", "left wrist")
    raw = np.array([[[[100, 100, 0.9], [100, 300, 0.9], [400, 300, 0.1]]]], np.float32)
    found = answer("pose", labels, {"keypoints": raw}, head="decoded")
    drawn = pixels(draw(photo(), found))
    assert tuple(drawn[200, 100]) == LEFT
    assert (drawn[250:350, 200:] == GREY).all()


def test_classes_are_listed() -> None:
    found = answer("classify", ("ant", "bee"), {"logits": np.array([[1, 3]], np.float32)}, top_k=2)
    drawn = pixels(draw(photo(), found))
    assert tuple(drawn[1, 1]) == class_colour(1)
    assert (drawn[300:] == GREY).all()


def test_other_outputs_leave_the_photo_as_it_is() -> None:
    assert (pixels(draw(photo(), {"y": np.zeros((1, 4), np.float32)})) == GREY).all()


def test_a_photo_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="expected a photo to draw on: cannot identify image file"):
        draw(b"no photo", boxes())


def test_saving(tmp_path: Path) -> None:
    image = draw(photo(), boxes())
    for suffix in (".png", ".JPG", ".webp"):
        save(image, tmp_path / f"out{suffix}")
        assert Image.open(tmp_path / f"out{suffix}").size == image.size
    with pytest.raises(ConfigError, match=r"expected a picture file ending in \.png, .*found out\.txt"):
        check_path(Path("out.txt"))
    with pytest.raises(ConfigError, match=r"can't write .*: No such file or directory"):
        save(image, tmp_path / "none" / "out.png")


def test_without_pillow_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from stagemesh.draw import draw\n"
        "from stagemesh.errors import ConfigError\n"
        "try: draw(b'', {})\n"
        "except ConfigError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("drawing needs Pillow (pip install 'stagemesh[draw]')")


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()
