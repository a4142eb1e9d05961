"""Where a photo lands in the network's image, and the way back.

Coordinates count pixels along x (right) and y (down); an integer is the centre of a pixel, so an image of width w
spans -0.5 … w - 0.5. Sizes are (height, width).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Size = tuple[int, int]
ResizeMode = Literal["stretch", "letterbox", "center_crop"]


@dataclass(frozen=True, slots=True)
class Affine:
    """x' = sx·x + ox, y' = sy·y + oy."""

    sx: float = 1.0
    sy: float = 1.0
    ox: float = 0.0
    oy: float = 0.0

    def then(self, after: Affine) -> Affine:
        """This map followed by `after`."""
        return Affine(
            after.sx * self.sx,
            after.sy * self.sy,
            after.sx * self.ox + after.ox,
            after.sy * self.oy + after.oy,
        )

    def row_major(self) -> tuple[float, float, float, float, float, float]:
        """The 2x3 matrix, row by row."""
        return self.sx, 0.0, self.ox, 0.0, self.sy, self.oy


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of whole pixels: the pixel in its upper left corner, and how many of them."""

    x: int
    y: int
    width: int
    height: int

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class Placement:
    """`source` of the photo is resized onto `target` of an image of `size`; the rest of that image is padding."""

    source: Box
    target: Box
    size: Size

    @property
    def scale(self) -> tuple[float, float]:
        """Photo pixels per pixel of the image, along x and y."""
        return self.source.width / self.target.width, self.source.height / self.target.height

    def moved(self, x: int, y: int) -> Placement:
        """The same with its source further right by `x` and further down by `y`."""
        source = Box(self.source.x + x, self.source.y + y, self.source.width, self.source.height)
        return Placement(source, self.target, self.size)

    def back(self) -> Affine:
        """The map from the image's pixels to the photo's."""
        sx, sy = self.scale
        return Affine(
            sx,
            sy,
            self.source.x - 0.5 + sx * (0.5 - self.target.x),
            self.source.y - 0.5 + sy * (0.5 - self.target.y),
        )


def place(mode: ResizeMode, photo: Size, size: Size, crop_ratio: float) -> Placement:
    """Place a photo into an image of `size`: all of it, all of it with its aspect kept, or its centre."""
    if mode == "letterbox":
        return _letterbox(photo, size)
    source = _center_crop(photo, size, crop_ratio) if mode == "center_crop" else _whole(photo)
    return Placement(source, _whole(size), size)


def dynamic_size(photo: Size, multiple_of: int, max_side: int) -> Size:
    """The photo's own size, shrunk to `max_side` where it is larger, each side rounded up to `multiple_of`."""
    shrink = min(1.0, max_side / max(photo))
    height, width = (-(-max(1, round(side * shrink)) // multiple_of) * multiple_of for side in photo)
    return height, width


def _whole(size: Size) -> Box:
    return Box(0, 0, size[1], size[0])


def _letterbox(photo: Size, size: Size) -> Placement:
    scale = min(size[0] / photo[0], size[1] / photo[1])
    height, width = (max(1, min(room, round(side * scale))) for side, room in zip(photo, size, strict=True))
    return Placement(_whole(photo), Box((size[1] - width) // 2, (size[0] - height) // 2, width, height), size)


def _center_crop(photo: Size, size: Size, ratio: float) -> Box:
    """The largest centred box of the aspect of `size`, times `ratio`; offsets are rounded half up."""
    height = max(1, int(ratio * min(photo[0], photo[1] * size[0] / size[1])))
    width = max(1, int(ratio * min(photo[1], photo[0] * size[1] / size[0])))
    return Box((photo[1] - width + 1) // 2, (photo[0] - height + 1) // 2, width, height)
