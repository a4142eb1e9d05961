"""What is drawn for which outputs: a task is known by the names of its outputs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from stagemesh.draw.canvas import Canvas, Point
from stagemesh.draw.colours import LEFT, MIDDLE, RIGHT, Colour, class_colour
from stagemesh.errors import InvalidInput

Answer = Mapping[str, NDArray[Any]]

# Joints by the names of COCO's keypoints; a network with other names gets dots alone.
BONES = (
    ("left ear", "left eye"), ("left eye", "nose"), ("nose", "right eye"), ("right eye", "right ear"),
    ("left shoulder", "right shoulder"), ("left hip", "right hip"),
    *((f"{side} {a}", f"{side} {b}") for side in ("left", "right") for a, b in (
        ("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle"),
    )),
)  # fmt: skip


def draw(photo: bytes | str | Path, answer: Answer, index: int = 0) -> Image.Image:
    """The photo, upright, with what `answer` says of row `index` of its batch drawn onto it.

    An answer without any known outputs leaves the photo as it is. Raises InvalidInput where the photo can't be read
    or is another than the one that was answered.
    """
    image = _read(photo)
    row = {name: array[index] for name, array in answer.items() if array.ndim}
    _check_size(image, row)
    canvas = Canvas(image)
    if "keypoints" in row:
        _draw_poses(canvas, row)
    elif "mask" in row:
        _draw_regions(canvas, row)
    elif "boxes" in row:
        _draw_boxes(canvas, row)
    elif {"labels", "scores", "class_ids"} <= row.keys():
        _draw_classes(canvas, row)
    return canvas.image


def _read(photo: bytes | str | Path) -> Image.Image:
    try:
        with Image.open(io.BytesIO(photo) if isinstance(photo, bytes) else photo) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InvalidInput(f"expected a photo to draw on: {error}", reason="IMAGE_BROKEN") from error


def _check_size(image: Image.Image, row: Answer) -> None:
    if "size" in row and (found := tuple(row["size"].tolist())) != (image.height, image.width):
        raise InvalidInput(
            f"expected the photo that was answered, {found[1]} x {found[0]} pixels, "
            f"found {image.width} x {image.height}"
        )


def _draw_boxes(canvas: Canvas, row: Answer) -> None:
    count = int(row["count"]) if "count" in row else len(row["boxes"])
    found = range(count)
    colours = [class_colour(int(row["class_ids"][item])) for item in found]
    # The best lies on top of the others.
    for item in reversed(found):
        canvas.box(row["boxes"][item].tolist(), colours[item])
        for x, y in row["landmarks"][item].tolist() if "landmarks" in row else ():
            canvas.dot((x, y), colours[item])
    for item in found:
        text = f"{_text(row['labels'][item])} {row['scores'][item]:.2f}"
        canvas.label(text, row["boxes"][item].tolist(), colours[item])


def _draw_regions(canvas: Canvas, row: Answer) -> None:
    height, width = row["size"].tolist()
    mask = row["mask"][:height, :width]
    found = [(item, int(row["class_ids"][item])) for item in range(int(row["count"]))]
    for _, class_id in found:
        canvas.tint(mask == class_id, class_colour(class_id))
    for item, class_id in found:
        text = f"{_text(row['labels'][item])} {row['shares'][item]:.0%}"
        canvas.label(text, row["boxes"][item].tolist(), class_colour(class_id))


def _draw_classes(canvas: Canvas, row: Answer) -> None:
    lines = [f"{_text(label)} {score:.2f}" for label, score in zip(row["labels"], row["scores"], strict=True)]
    canvas.list(lines, [class_colour(int(class_id)) for class_id in row["class_ids"]])


def _draw_poses(canvas: Canvas, row: Answer) -> None:
    for points, labels, visible in zip(row["keypoints"], row["labels"], row["visible"], strict=True):
        places: dict[str, Point] = {
            _text(label): (float(x), float(y)) for (x, y), label in zip(points[visible], labels[visible], strict=True)
        }
        for start, end in BONES:
            if start in places and end in places:
                canvas.line(places[start], places[end], _side(start, end))
        for name, place in places.items():
            canvas.dot(place, _side(name, name))


def _side(start: str, end: str) -> Colour:
    sides = {name.partition(" ")[0] for name in (start, end) if name != "nose"}
    if sides == {"left"}:
        return LEFT
    return RIGHT if sides == {"right"} else MIDDLE


def _text(label: object) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)
