"""Answers drawn onto photos; needs Pillow, the extra `draw`, which is imported only when something is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagemesh.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def draw(photo: bytes | str | Path, answer: Mapping[str, NDArray[Any]], index: int = 0) -> Image:
    """The photo with what `answer` says of row `index` of its batch: boxes, labels, masks, skeletons.

    Raises InvalidInput for a photo that can't be read or is another than the one answered, ConfigError without Pillow.
    """
    try:
        from stagemesh.draw.answers import draw as draw_answer
    except ImportError as error:
        raise ConfigError(f"drawing needs Pillow (pip install 'stagemesh[draw]'): {error}") from error
    return draw_answer(photo, answer, index)


def check_path(path: Path) -> Path:
    """`path`, if its ending names an image format. Raises ConfigError."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"expected a picture file ending in {', '.join(SUFFIXES)}, found {path}")
    return path


def save(image: Image, path: Path) -> None:
    """Write a picture in the format that its ending names. Raises ConfigError where it can't be written."""
    try:
        image.save(check_path(path))
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror or error}") from error
