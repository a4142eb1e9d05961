"""Every kind of photo that is supported, against the pixels it was made from."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from services.preprocess.decode import Photo, decode

WHITE = (255, 255, 255)
GREEN = (0, 200, 0)


def pixels_of(data: bytes, background: tuple[int, int, int] = WHITE) -> NDArray[np.uint8]:
    return decode(data, max_pixels=10_000_000, background=background).pixels


def png(samples: NDArray[Any], colour_type: int, extra: bytes = b"") -> bytes:
    """A PNG of big-endian samples [h, w, channels] of 8 or 16 bits, with chunks that Pillow would not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, samples.itemsize * 8, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    clear = chunk(b"tRNS", extra) if extra else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + clear
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def coffee(photo: Callable[[str], bytes]) -> Image.Image:
    return Image.open(io.BytesIO(photo("coffee.png"))).convert("RGB").resize((150, 100))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("coffee.png", (400, 600)),
        ("chelsea.png", (300, 451)),
        ("astronaut.png", (512, 512)),
        ("rocket.jpg", (427, 640)),
        ("china.jpg", (427, 640)),
    ],
)
def test_real_photos(photo: Callable[[str], bytes], name: str, size: tuple[int, int]) -> None:
    found = decode(photo(name), max_pixels=1_000_000, background=WHITE)
    assert found.size == size
    expected = np.asarray(Image.open(io.BytesIO(photo(name))).convert("RGB"))
    assert np.array_equal(found.pixels, expected)
    assert found.to_full.row_major() == (1, 0, 0, 0, 1, 0)


@pytest.mark.parametrize(
    ("kind", "keys", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 8),
        ("JPEG", {"quality": 95}, 8),
        ("JPEG", {"quality": 95, "progressive": True, "subsampling": 0}, 6),
    ],
)
def test_formats(coffee: Image.Image, encode: Callable[..., bytes], kind: str, keys: Any, tolerance: float) -> None:
    found = pixels_of(encode(coffee, kind, **keys))
    difference = np.abs(found.astype(int) - np.asarray(coffee))
    assert difference.max() == 0 if tolerance == 0 else difference.mean() < tolerance


@pytest.mark.parametrize("mode", ["1", "L", "P"])
@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_grey_and_palette(coffee: Image.Image, encode: Callable[..., bytes], mode: str, kind: str) -> None:
    image = coffee.convert(mode)
    assert np.array_equal(pixels_of(encode(image, kind)), np.asarray(image.convert("RGB")))


def test_grey_jpeg(coffee: Image.Image, encode: Callable[..., bytes]) -> None:
    found = pixels_of(encode(coffee.convert("L"), "JPEG"))
    assert found.shape == (100, 150, 3)
    assert (found[..., 0] == found[..., 2]).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparent_shows_the_background(coffee: Image.Image, encode: Callable[..., bytes], kind: str) -> None:
    image = coffee.convert("RGBA")
    alpha = np.full((100, 150), 255, np.uint8)
    alpha[:50], alpha[50] = 0, 128
    image.putalpha(Image.fromarray(alpha))
    keys = {"lossless": True} if kind == "WEBP" else {}
    found = pixels_of(encode(image, kind, **keys), background=GREEN)
    assert (found[:50] == GREEN).all()
    assert np.abs(found[50].astype(int) - (np.asarray(coffee)[50].astype(int) + GREEN) / 2).max() <= 1
    assert np.array_equal(found[51:], np.asarray(coffee)[51:])


def test_grey_with_alpha_and_palette_with_a_clear_colour(encode: Callable[..., bytes]) -> None:
    grey = Image.fromarray(np.array([[[90, 255], [90, 0]]], np.uint8), "LA")
    assert pixels_of(encode(grey), GREEN).tolist() == [[[90, 90, 90], [0, 200, 0]]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette = palette.convert("P")
    palette.putpalette([1, 2, 3, 4, 5, 6])
    assert pixels_of(encode(palette, transparency=1), GREEN).tolist() == [[[1, 2, 3], [0, 200, 0]]]


def test_16_bit_samples_keep_the_high_byte() -> None:
    grey = np.array([[0, 0x00FF], [0x8001, 0xFFFF]], ">u2")[..., None]
    assert pixels_of(png(grey, 0))[..., 0].tolist() == [[0, 0], [128, 255]]
    colour = np.array([[[0, 0x8001, 0xFFFF]]], ">u2")
    assert pixels_of(png(colour, 2)).tolist() == [[[0, 128, 255]]]
    alpha = np.array([[[0x1234, 0, 0, 0], [0x1234, 0, 0, 0xFFFF]]], ">u2")
    assert pixels_of(png(alpha, 6), GREEN).tolist() == [[[0, 200, 0], [0x12, 0, 0]]]


def test_16_bit_grey_with_a_clear_level() -> None:
    grey = np.array([[0x8001, 0x8002]], ">u2")[..., None]
    found = pixels_of(png(grey, 0, extra=b"\x80\x02"), GREEN)
    assert found.tolist() == [[[128, 128, 128], [0, 200, 0]]]


def test_cmyk_with_and_without_adobes_mark(coffee: Image.Image, encode: Callable[..., bytes]) -> None:
    cmyk = coffee.convert("CMYK")
    marked = encode(cmyk, "JPEG", quality=98, subsampling=0)
    assert b"Adobe" in marked
    assert np.abs(pixels_of(marked).astype(int) - np.asarray(coffee)).mean() < 4
    start = marked.index(b"\xff\xee")
    length = int.from_bytes(marked[start + 2 : start + 4], "big")
    # Without the mark the same samples are ink as it is, not inverted: the picture's negative in CMYK.
    bare = marked[:start] + marked[start + 2 + length :]
    negative = Image.merge("CMYK", [ImageOps.invert(band) for band in cmyk.split()]).convert("RGB")
    assert np.abs(pixels_of(bare).astype(int) - np.asarray(negative)).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_exif_orientation(coffee: Image.Image, encode: Callable[..., bytes], kind: str, orientation: int) -> None:
    keys = {"lossless": True} if kind == "WEBP" else {}
    data = encode(coffee, kind, orientation=orientation, **keys)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(pixels_of(data), np.asarray(upright.convert("RGB")))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_broken_exif_does_not_cost_the_photo(coffee: Image.Image, encode: Callable[..., bytes], exif: bytes) -> None:
    assert pixels_of(encode(coffee, "JPEG", exif=exif)).shape == (100, 150, 3)
    assert pixels_of(encode(coffee, "JPEG", orientation=77)).shape == (100, 150, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame(coffee: Image.Image, encode: Callable[..., bytes], kind: str) -> None:
    keys = {"lossless": True} if kind == "WEBP" else {}
    data = encode(coffee, kind, save_all=True, append_images=[ImageOps.invert(coffee)], **keys)
    assert np.array_equal(pixels_of(data), np.asarray(coffee))


def reduced(data: bytes, factor: float) -> Photo:
    return decode(data, max_pixels=10_000_000, background=WHITE, reduction=lambda _: factor)


@pytest.mark.parametrize(("wanted", "factor"), [(0.5, 1), (1.9, 1), (2, 2), (3.99, 2), (5, 4), (100, 8)])
def test_reduced_decode(photo: Callable[[str], bytes], wanted: float, factor: int) -> None:
    found = reduced(photo("rocket.jpg"), wanted)
    assert found.pixels.shape == (-(-427 // factor), -(-640 // factor), 3)
    assert found.size == (427, 640)
    assert found.to_full.row_major() == (factor, 0, (factor - 1) / 2, 0, factor, (factor - 1) / 2)


def test_only_jpeg_is_reduced(photo: Callable[[str], bytes]) -> None:
    assert reduced(photo("coffee.png"), 8).pixels.shape == (400, 600, 3)
