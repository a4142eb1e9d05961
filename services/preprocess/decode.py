"""From the bytes of an encoded photo to upright RGB pixels, with the pixel cap checked before anything is decoded."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from services.preprocess.colour import Colour, to_rgb
from services.preprocess.geometry import Affine, Size
from services.preprocess.headers import Format, jpeg_scans, sniff, webp_size
from stagemesh.errors import InvalidInput

MAX_JPEG_SCANS = 64
_EXIF_ORIENTATION = 0x0112

# The format classes themselves, not Image.open: its pixel cap is a global of the process and can only warn or refuse
# at sizes of its own.
_OPENERS: dict[Format, Callable[[io.BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
}


@dataclass(frozen=True, slots=True)
class Photo:
    """`pixels` RGB [h, w, 3], upright and perhaps reduced; `size` of the upright photo in full; `to_full` maps
    a pixel of `pixels` to a pixel of the photo in full."""

    pixels: NDArray[np.uint8]
    size: Size
    to_full: Affine


@dataclass(frozen=True, slots=True)
class _Turn:
    """How a stored photo becomes upright: transposed first, then flipped."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def size(self, width: int, height: int) -> Size:
        """Upright (height, width) of a stored width and height."""
        return (width, height) if self.transpose else (height, width)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Upright pixels [h, w, 3], contiguous."""
        upright = pixels.transpose(1, 0, 2) if self.transpose else pixels
        upright = upright[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return np.ascontiguousarray(upright)


_TURNS = {
    2: _Turn(flip_x=True),
    3: _Turn(flip_x=True, flip_y=True),
    4: _Turn(flip_y=True),
    5: _Turn(transpose=True),
    6: _Turn(transpose=True, flip_x=True),
    7: _Turn(transpose=True, flip_x=True, flip_y=True),
    8: _Turn(transpose=True, flip_y=True),
}


def no_reduction(_: Size) -> float:
    """Decode in full."""
    return 1.0


def decode(
    data: bytes, *, max_pixels: int, background: Colour, reduction: Callable[[Size], float] = no_reduction
) -> Photo:
    """Decode one JPEG, PNG, WebP or BMP; of an animation its first frame.

    `reduction` tells, from the upright size, how many times too large the photo is; a JPEG is then decoded at 1/2,
    1/4 or 1/8 of its size. Raises InvalidInput saying what was found.
    """
    kind = sniff(data)
    try:
        with _open(kind, data, max_pixels) as image:
            return _load(image, background, reduction)
    except InvalidInput:
        raise
    except Exception as error:  # decoders fed with broken bytes raise of everything: OSError, SyntaxError, EOFError …
        found = f"{len(data)} bytes that do not decode: {str(error) or type(error).__name__}"
        raise InvalidInput(f"expected a whole {kind} image, found {found}", reason="IMAGE_BROKEN") from error


def _open(kind: Format, data: bytes, max_pixels: int) -> ImageFile:
    if kind == "WebP":
        _check_size(kind, webp_size(data), max_pixels)
    if kind == "JPEG" and jpeg_scans(data, MAX_JPEG_SCANS + 1) > MAX_JPEG_SCANS:
        raise InvalidInput(f"expected a JPEG of at most {MAX_JPEG_SCANS} scans, found more", reason="IMAGE_TOO_LARGE")
    image = _OPENERS[kind](io.BytesIO(data))
    _check_size(kind, (image.height, image.width), max_pixels)
    return image


def _check_size(kind: Format, size: Size, max_pixels: int) -> None:
    height, width = size
    if height < 1 or width < 1:
        raise InvalidInput(
            f"expected a whole {kind} image, found a header of {width} x {height} pixels", reason="IMAGE_BROKEN"
        )
    if height * width > max_pixels:
        raise InvalidInput(
            f"expected at most {max_pixels:,} pixels, found {width} x {height} = {height * width:,}",
            reason="IMAGE_TOO_LARGE",
        )


def _load(image: ImageFile, background: Colour, reduction: Callable[[Size], float]) -> Photo:
    width, height = image.size
    factor = _reduce(image, reduction)
    image.load()
    turn = _turn(image)
    pixels = turn.apply(to_rgb(image, background))
    full = turn.size(width, height)
    return Photo(pixels, full, _to_full(pixels.shape[:2], full, factor, turn))


def _reduce(image: ImageFile, reduction: Callable[[Size], float]) -> int:
    """Choose the scale at which `image` will be decoded: 1/1, 1/2, 1/4 or 1/8."""
    width, height = image.size
    if not isinstance(image, JpegImageFile):
        return 1
    wanted = reduction(_turn(image).size(width, height))
    factor = max(step for step in (1, 2, 4, 8) if step <= max(1.0, min(wanted, width, height)))
    if factor > 1:
        image.draft(None, (width // factor, height // factor))
    return factor


def _turn(image: Image.Image) -> _Turn:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # a broken EXIF block, whatever it raises, must not cost the photo
        return _Turn()
    return _TURNS.get(orientation, _Turn()) if isinstance(orientation, int) else _Turn()


def _to_full(reduced: tuple[int, ...], full: Size, factor: int, turn: _Turn) -> Affine:
    """Pixels of the reduced photo to those in full. A reduced photo's last column or row may stand for fewer pixels
    than the others; flipped, it is the first one, which shifts all."""
    shift = (factor - 1) / 2
    return Affine(
        factor,
        factor,
        shift + (full[1] - reduced[1] * factor if turn.flip_x else 0),
        shift + (full[0] - reduced[0] * factor if turn.flip_y else 0),
    )
