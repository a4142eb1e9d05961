"""From whatever a decoder gives to 8-bit RGB. ICC profiles are not applied."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

Colour = tuple[int, int, int]


def to_rgb(image: Image.Image, background: Colour) -> NDArray[np.uint8]:
    """RGB [h, w, 3] of a decoded image; what is transparent shows `background`, 16-bit samples keep their high byte."""
    if image.mode.startswith("I;16"):
        image = _narrow(image)
    if image.mode == "CMYK" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for an inverted one, as Adobe writes them; without Adobe's mark it is not.
        image = ImageChops.invert(image)
    if image.has_transparency_data:
        image = _composite(image.convert("RGBA"), background)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _narrow(image: Image.Image) -> Image.Image:
    samples: NDArray[Any] = np.asarray(image)
    grey = Image.fromarray((samples >> 8).astype(np.uint8))
    clear = image.info.get("transparency")
    if clear is not None:
        grey.putalpha(Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8)))
    return grey


def _composite(image: Image.Image, background: Colour) -> Image.Image:
    base = Image.new("RGB", image.size, background)
    base.paste(image, mask=image.getchannel("A"))
    return base
