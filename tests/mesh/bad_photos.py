"""Photos that must be refused, made by hand: small files that claim or hold far too much."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ONE_BIT, EIGHT_BITS = 1, 8


def png(width: int, height: int, data: bytes, *, bits: int = EIGHT_BITS, ancillary: bytes = b"") -> bytes:
    """A grey PNG: its header, the chunks of `ancillary`, and the zlib stream `data` as its pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + ancillary + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header_only(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    return png(width, height, zlib.compress(b""))


def black(side: int) -> bytes:
    """A whole, valid PNG of `side` x `side` black pixels, a bit each."""
    return png(side, side, deflated_zeros(side * (1 + -(-side // 8))), bits=ONE_BIT)


def text_bomb(size: int) -> bytes:
    """A PNG of one pixel with a compressed text of `size` bytes."""
    return png(1, 1, zlib.compress(bytes(2)), ancillary=chunk(b"zTXt", b"Comment\0\0" + deflated_zeros(size)))


def deflated_zeros(size: int) -> bytes:
    """The zlib stream of `size` zero bytes, made without holding them."""
    return b"".join(_deflate(size))


def _deflate(size: int) -> Iterator[bytes]:
    deflater = zlib.compressobj(1)
    block = bytes(1 << 20)
    for start in range(0, size, len(block)):
        yield deflater.compress(block[: size - start])
    yield deflater.flush()
