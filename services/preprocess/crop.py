"""The request parameter `crop`: the part of each photo that is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping

from services.preprocess.geometry import Box, Size
from stagemesh.errors import InvalidInput
from stagemesh.oip.tensors import Parameter

CROP = "crop"
_FORM = re.compile(r"\s*(\d{1,6})\s*,\s*(\d{1,6})\s*,\s*(\d{1,6})\s*,\s*(\d{1,6})\s*", re.ASCII)


def parse_crop(parameters: Mapping[str, Parameter]) -> Box | None:
    """The box of `crop`, "x1,y1,x2,y2" in whole pixels, x2 and y2 being the first ones outside; None without it.

    Raises InvalidInput for another form and for an empty box.
    """
    value = parameters.get(CROP)
    if value is None:
        return None
    match = _FORM.fullmatch(value) if isinstance(value, str) else None
    x1, y1, x2, y2 = (int(number) for number in match.groups()) if match else (0, 0, 0, 0)
    if x1 >= x2 or y1 >= y2:
        raise InvalidInput(f"parameter '{CROP}': expected 'x1,y1,x2,y2' with x1 < x2 and y1 < y2, found {value!r}")
    return Box(x1, y1, x2 - x1, y2 - y1)


def crop_of(photo: Size, crop: Box | None) -> Box:
    """`crop`, or all of the photo. Raises InvalidInput where it reaches beyond the photo."""
    height, width = photo
    if crop is None:
        return Box(0, 0, width, height)
    x2, y2 = crop.x + crop.width, crop.y + crop.height
    if x2 > width or y2 > height:
        found = f"{crop.x},{crop.y},{x2},{y2}"
        raise InvalidInput(f"parameter '{CROP}': expected a box inside the photo of {width} x {height}, found {found}")
    return crop
