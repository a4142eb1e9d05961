"""What the first bytes of an encoded photo say, read without decoding anything."""

from __future__ import annotations

import re
from typing import Literal

from stagemesh.errors import InvalidInput

Format = Literal["JPEG", "PNG", "WebP", "BMP"]

_OTHERS = {
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"\0\0\1\0": "ICO",
    b"\0\0\0\x0cjP": "JPEG 2000",
}
_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA


def sniff(data: bytes) -> Format:
    """The format of an encoded photo; InvalidInput naming what was found where it is none that is supported."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith(b"BM"):
        return "BMP"
    raise InvalidInput(f"expected a JPEG, PNG, WebP or BMP image, found {_guess(data)}", reason="IMAGE_FORMAT")


def _guess(data: bytes) -> str:
    if not data:
        return "0 bytes"
    if data[4:8] == b"ftyp":
        return f"an ISO media file of brand {data[8:12]!r} (HEIC, AVIF or video)"
    for magic, name in _OTHERS.items():
        if data.startswith(magic):
            return name
    return f"{len(data)} bytes that start with {data[:8]!r}"


def webp_size(data: bytes) -> tuple[int, int]:
    """(height, width) of a WebP's canvas, (0, 0) where the header is cut off or unknown.

    Opening a WebP allocates its canvas, so its size has to be known before.
    """
    if len(data) < 30:
        return 0, 0
    kind = data[12:16]
    if kind == b"VP8X":
        return _little(data[27:30]) + 1, _little(data[24:27]) + 1
    if kind == b"VP8L":
        bits = _little(data[21:25])
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        return _little(data[28:30]) & 0x3FFF, _little(data[26:28]) & 0x3FFF
    return 0, 0


def jpeg_scans(data: bytes, stop: int) -> int:
    """How many scans a JPEG has, counted up to `stop`.

    Each scan of a progressive JPEG costs a pass over all its pixels but only a few bytes of the file.
    """
    scans, position = 0, 2
    while scans < stop and (marker := _SEGMENT.search(data, position)):
        position = marker.end()
        code = data[position - 1]
        if code == _END_OF_IMAGE:
            break
        scans += code == _START_OF_SCAN
        position += int.from_bytes(data[position : position + 2], "big")
    return scans


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
