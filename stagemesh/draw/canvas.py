"""A photo to draw on: lines, dots, tints and labels whose sizes follow the photo's.

Places are in pixels of the photo, integers being pixel centres. A small photo is enlarged by a whole factor, so that
text on it can be read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stagemesh.draw.colours import BLACK, WHITE, Colour, text_on

Point = tuple[float, float]
Rect = tuple[float, float, float, float]

_SMALLEST = 480
_TINT = 0.45


class Canvas:
    """Draws on its own copy of `photo`, RGB."""

    def __init__(self, photo: Image.Image) -> None:
        self._factor = -(-_SMALLEST // max(photo.size))
        size = photo.width * self._factor, photo.height * self._factor
        self.image = photo.resize(size, Image.Resampling.BICUBIC) if self._factor > 1 else photo.copy()
        unit = min(max(size) / 1000, min(size) / 250)
        self.line_width = max(2, round(3 * unit))
        self._font = ImageFont.load_default(max(12.0, 20 * unit))
        self._line_height = self._font.getbbox("Ågy")[3]
        self._pen = ImageDraw.Draw(self.image)
        self._taken: list[Rect] = []

    def box(self, box: Sequence[float], colour: Colour) -> None:
        """The outline of x1, y1, x2, y2, with a dark rim."""
        left, top, right, bottom = self._rect(box)
        for grow, width, ink in ((1, self.line_width + 2, BLACK), (0, self.line_width, colour)):
            outline = left - grow, top - grow, max(left, right) + grow, max(top, bottom) + grow
            self._pen.rectangle(outline, outline=ink, width=width)

    def line(self, start: Point, end: Point, colour: Colour) -> None:
        """A line with a dark rim."""
        ends = [self._at(*start), self._at(*end)]
        width = self.line_width * 8 // 5
        self._pen.line(ends, fill=BLACK, width=width + 2)
        self._pen.line(ends, fill=colour, width=width)

    def dot(self, place: Point, colour: Colour) -> None:
        """A disc with a dark rim."""
        radius = self.line_width * 1.4
        x, y = self._at(*place)
        self._pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=BLACK)

    def tint(self, inside: NDArray[np.bool_], colour: Colour) -> None:
        """Colour the pixels `inside` [h, w] of the photo, and outline them in white and that colour."""
        inside = inside.repeat(self._factor, axis=0).repeat(self._factor, axis=1)
        inner = grown(inside, self.line_width)
        outer = grown(inner, max(1, self.line_width // 2))
        for part, ink, share in ((inside, colour, _TINT), (outer & ~inner, WHITE, 1.0), (inner & ~inside, colour, 1.0)):
            self.image.paste(ink, mask=Image.fromarray(part.astype(np.uint8) * round(255 * share)))

    def label(self, text: str, box: Sequence[float], colour: Colour) -> Rect:
        """`text` on a plate of `colour` at a box: where it covers no other label if it can, and always inside.

        Returns the plate's pixels on `image`.
        """
        text = self._shortened(text)
        left, top, right, bottom = self._rect(box)
        width, height = self._plate(text)
        places = [(left, top - height), (left, top), (left, bottom), (left, bottom - height), (right - width, top)]
        plates = [self._inside(x, y, width, height) for x, y in places]
        free = [plate for plate in plates if not any(_cross(plate, taken) for taken in self._taken)]
        return self._write(text, (free or plates)[0], colour)

    def list(self, lines: Sequence[str], colours: Sequence[Colour]) -> None:
        """Labels one below the other from the upper left corner, as many as there is room for."""
        y = 0.0
        for line, colour in zip(lines, colours, strict=True):
            text = self._shortened(line)
            width, height = self._plate(text)
            if y + height > self.image.height and y:
                return
            self._write(text, self._inside(0, y, width, height), colour)
            y += height + 1

    def _at(self, x: float, y: float) -> Point:
        return (x + 0.5) * self._factor - 0.5, (y + 0.5) * self._factor - 0.5

    def _rect(self, box: Sequence[float]) -> Rect:
        """The pixels that a box from edge to edge covers first and last, kept on the photo."""
        width, height = self.image.size
        left, top = (max(0.0, (side + 0.5) * self._factor) for side in box[:2])
        right, bottom = ((side + 0.5) * self._factor - 1 for side in box[2:])
        return (
            min(left, width - 1),
            min(top, height - 1),
            min(max(right, 0), width - 1),
            min(max(bottom, 0), height - 1),
        )

    def _plate(self, text: str) -> Point:
        return self._pen.textlength(text, self._font) + 2 * self._margin, self._line_height + self._margin

    @property
    def _margin(self) -> int:
        return self.line_width + 1

    def _shortened(self, text: str) -> str:
        """`text`, its end cut off where it is wider than the photo."""
        text, full = text.splitlines()[0] if text.strip() else "", text
        while len(text) > 1 and self._plate(text)[0] > self.image.width:
            text = text.removesuffix("…")[:-1] + "…"
        return text or full.strip()

    def _inside(self, x: float, y: float, width: float, height: float) -> Rect:
        x = max(0.0, min(x, self.image.width - width))
        y = max(0.0, min(y, self.image.height - height))
        return x, y, x + width, y + height

    def _write(self, text: str, plate: Rect, colour: Colour) -> Rect:
        self._taken.append(plate)
        self._pen.rectangle(plate, fill=colour)
        place = plate[0] + self._margin, plate[1] + self._margin / 2
        self._pen.text(place, text, fill=text_on(colour), font=self._font)
        return plate


def grown(inside: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """`inside` [h, w] and all that is at most `reach` pixels away from it along both axes."""
    result = inside.copy()
    for _ in range(reach):
        wide = result.copy()
        wide[:, 1:] |= result[:, :-1]
        wide[:, :-1] |= result[:, 1:]
        result = wide.copy()
        result[1:] |= wide[:-1]
        result[:-1] |= wide[1:]
    return result


def _cross(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
