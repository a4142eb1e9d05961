"""A colour for each class, and text that can be read on it."""

from __future__ import annotations

import colorsys

Colour = tuple[int, int, int]

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
LEFT: Colour = (64, 156, 255)
RIGHT: Colour = (255, 142, 43)
MIDDLE: Colour = (255, 225, 64)

# Steps of the golden ratio round the colour circle keep neighbouring ids apart however many there are.
_STEP = 0.6180339887
_FIRST_HUE = 0.36
# As far from white as from black, in ratios.
_MIDDLE = 0.179


def class_colour(class_id: int) -> Colour:
    """The same strong colour for the same class, always."""
    hue = (_FIRST_HUE + class_id * _STEP) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85 - 0.25 * (class_id % 3 == 2), 1.0 - 0.2 * (class_id % 2))
    return round(red * 255), round(green * 255), round(blue * 255)


def text_on(colour: Colour) -> Colour:
    """Black or white, whichever stands out more."""
    return BLACK if luminance(colour) > _MIDDLE else WHITE


def luminance(colour: Colour) -> float:
    """How bright a colour looks: 0 for black, 1 for white."""
    red, green, blue = (float((level / 255) ** 2.2) for level in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
