"""What is no photo, is broken or is far too large: refused at once, with what was found."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from services.preprocess.decode import MAX_JPEG_SCANS, decode
from stagemesh.errors import InvalidInput

Encode = Callable[..., bytes]
Read = Callable[[str], bytes]


def refuse(data: bytes, max_pixels: int = 50_000_000) -> InvalidInput:
    """The error of decoding `data`, which must come within a second."""
    start = time.monotonic()
    with pytest.raises(InvalidInput) as raised:
        decode(data, max_pixels=max_pixels, background=(0, 0, 0))
    assert time.monotonic() - start < 1
    return raised.value


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, bits: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "found 0 bytes"),
        (b"hello, this is text", "found 19 bytes that start with b'hello, t'"),
        (b"GIF89a" + bytes(20), "found GIF"),
        (b"II*\0" + bytes(20), "found TIFF"),
        (b"%PDF-1.7", "found PDF"),
        (b"\0\0\0\x20ftypheic" + bytes(20), "found an ISO media file of brand b'heic'"),
        (b"RIFF\0\0\0\0WAVE", "found 12 bytes that start with b'RIFF"),
    ],
)
def test_other_formats(data: bytes, found: str) -> None:
    error = refuse(data)
    assert f"expected a JPEG, PNG, WebP or BMP image, {found}" in str(error)
    assert error.reason == "IMAGE_FORMAT"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.99])
def test_truncated(encode: Encode, photo: Read, kind: str, share: float) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (90, 120, 3), np.uint8)
    data = encode(pixels, kind)
    error = refuse(data[: max(16, int(len(data) * share))])
    assert "expected a whole" in str(error)
    assert error.reason == "IMAGE_BROKEN"


def test_truncated_real_photos(photo: Read) -> None:
    for name in ("coffee.png", "rocket.jpg"):
        data = photo(name)
        assert "do not decode" in str(refuse(data[: len(data) // 2]))


def test_header_of_60000_by_60000(encode: Encode) -> None:
    for data in (
        png(60_000, 60_000, chunk(b"IDAT", zlib.compress(b""))),
        b"BM" + struct.pack("<IIIIiiHH", 100, 0, 54, 40, 60_000, 60_000, 1, 24) + bytes(24),
        encode(np.zeros((8, 8, 3), np.uint8), "JPEG").replace(b"\x00\x08\x00\x08\x03", b"\xea\x60\xea\x60\x03"),
    ):
        error = refuse(data)
        assert "expected at most 50,000,000 pixels, found 60000 x 60000 = 3,600,000,000" in str(error)
        assert error.reason == "IMAGE_TOO_LARGE"


def test_a_real_photo_of_30000_by_30000() -> None:
    deflate = zlib.compressobj(1)
    body = b"".join(deflate.compress(bytes(3751)) for _ in range(30_000)) + deflate.flush()
    data = png(30_000, 30_000, chunk(b"IDAT", body), bits=1)
    assert "found 30000 x 30000 = 900,000,000" in str(refuse(data))
    small = png(3_000, 3_000, chunk(b"IDAT", zlib.compress(bytes(376 * 3_000))), bits=1)
    assert decode(small, max_pixels=9_000_000, background=(0, 0, 0)).size == (3_000, 3_000)


def webp(kind: bytes, body: bytes) -> bytes:
    data = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"VP8X", bytes(4) + (16_382).to_bytes(3, "little") * 2),
        (b"VP8L", b"\x2f" + (16_382 | 16_382 << 14).to_bytes(4, "little") + bytes(5)),
        (b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383)),
    ],
)
def test_webp_canvas_is_checked_before_it_is_allocated(kind: bytes, body: bytes) -> None:
    assert "found 16383 x 16383 = 268,402,689" in str(refuse(webp(kind, body + bytes(20))))
    assert "expected a whole WebP image, found a header of 0 x 0" in str(refuse(webp(b"JUNK", bytes(30))))


def test_webp_size_agrees_with_the_decoder(encode: Encode) -> None:
    pixels = np.zeros((37, 53, 4), np.uint8)
    for keys in ({"lossless": True}, {"lossless": False}, {"lossless": False, "orientation": 1}):
        data = encode(pixels[..., :3], "WEBP", **keys)
        assert decode(data, max_pixels=37 * 53, background=(0, 0, 0)).size == (37, 53)
        refuse(data, max_pixels=37 * 53 - 1)


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt"])
def test_bomb_inside_a_png_chunk(kind: bytes) -> None:
    bomb = chunk(kind, b"name\0\0" + zlib.compress(bytes(100_000_000), 9))
    refuse(png(8, 8, bomb, chunk(b"IDAT", zlib.compress(bytes(72)))))


def test_idat_that_inflates_to_more_than_the_picture() -> None:
    data = png(8, 8, chunk(b"IDAT", zlib.compress(bytes(100_000_000), 9)))
    start = time.monotonic()
    assert decode(data, max_pixels=64, background=(0, 0, 0)).size == (8, 8)
    assert time.monotonic() - start < 1


def test_jpeg_of_endless_scans(encode: Encode) -> None:
    data = encode(Image.new("L", (2_000, 2_000), 77), "JPEG", progressive=True)
    assert decode(data, max_pixels=4_000_000, background=(0, 0, 0)).size == (2_000, 2_000)
    scan = data[data.rindex(b"\xff\xda") : -2]
    error = refuse(data[:-2] + scan * 10_000 + b"\xff\xd9")
    assert f"expected a JPEG of at most {MAX_JPEG_SCANS} scans, found more" in str(error)


def test_bytes_after_the_end_of_a_jpeg_are_no_scans(encode: Encode) -> None:
    data = encode(Image.new("RGB", (20, 20)), "JPEG") + b"\xff\xda\0\2" * 1_000
    assert decode(data, max_pixels=400, background=(0, 0, 0)).size == (20, 20)


SEEDS = ["JPEG", "PNG", "WEBP", "BMP"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_photos_decode_or_are_refused(encode: Encode, data: st.DataObject) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (24, 31, 3), np.uint8)
    photo = bytearray(encode(pixels, data.draw(st.sampled_from(SEEDS)), orientation=6))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, min(len(photo) - 1, 400)))
        photo[place] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(photo), max_pixels=1_000_000, background=(0, 0, 0))
    except InvalidInput as error:
        assert "expected" in str(error)
