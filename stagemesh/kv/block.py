"""A block as it lies in the pool: a header of 256 bytes that describes and seals it, then the payload.

The writer sends header and payload side by side, never joined. The reader verifies a value where it was read to:
`verify` for one who knows what to expect, `verify_key` for one who knows only the key. Whatever the bytes are, they
end as the payload or as a BlockMismatch that says why.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import ClassVar

import xxhash

from stagemesh.errors import InvalidInput, StagemeshError
from stagemesh.kv.codecs import find_codec
from stagemesh.kv.keys import HASH_BYTES, LAYOUT_VERSION, Identity, Link

MAGIC = b"stagekv\0"
VERSION = 1
HEADER_BYTES = 256
CHECKSUM_BYTES = 16
MAX_PAYLOAD_BYTES = 512 * 1024 * 1024 - HEADER_BYTES

Buffer = bytes | bytearray | memoryview

# magic, version, header bytes, tokens, payload bytes, codec, dtype, shape[5], layout, fingerprint, chain, parent,
# digest of the token ids, zeros; the checksum follows
_COMMON = struct.Struct("<8sHHIQ12s12s5II32s")
_STEM = struct.Struct(_COMMON.format + "32s32s32s40s")
_STEM_BYTES = _STEM.size
_ZEROS = bytes(40)


class Mismatch(StrEnum):
    """Why a value isn't the block that was asked for."""

    TRUNCATED = "truncated"
    MAGIC = "magic"
    VERSION = "version"
    HEADER = "header"
    LENGTH = "length"
    FINGERPRINT = "fingerprint"
    CODEC = "codec"
    DTYPE = "dtype"
    SHAPE = "shape"
    CHAIN = "chain"
    PARENT = "parent"
    TOKENS = "tokens"
    CHECKSUM = "checksum"


class BlockMismatch(StagemeshError):
    """A value that isn't the block that was asked for: a miss, counted by `mismatch`."""

    code: ClassVar[str] = "DATA_LOSS"
    default_reason: ClassVar[str] = "BLOCK_MISMATCH"

    def __init__(self, mismatch: Mismatch, expected: object, found: object) -> None:
        super().__init__(f"block {mismatch}: expected {_show(expected)}, found {_show(found)}")
        self.mismatch = mismatch


@dataclass(frozen=True)
class BlockSpec:
    """What all blocks of one fingerprint have in common; `shape` is [layers, 2, kv_heads, tokens, head_dim]."""

    fingerprint: bytes
    dtype: str
    codec: str
    shape: tuple[int, int, int, int, int]
    layout: int = LAYOUT_VERSION

    def __post_init__(self) -> None:
        """Raises InvalidInput for an unknown dtype or codec, an impossible shape and a payload Redis can't hold."""
        if len(self.fingerprint) != HASH_BYTES:
            raise InvalidInput(f"fingerprint: expected {HASH_BYTES} bytes, got {len(self.fingerprint)}")
        if len(self.shape) != 5 or self.shape[1] != 2 or not all(0 < size < 2**32 for size in self.shape):
            raise InvalidInput(f"expected a shape [layers, 2, kv_heads, tokens, head_dim], got {list(self.shape)}")
        if self.payload_size > MAX_PAYLOAD_BYTES:
            raise InvalidInput(f"expected a payload of at most {MAX_PAYLOAD_BYTES} bytes, got {self.payload_size}")

    @classmethod
    def of(cls, identity: Identity) -> BlockSpec:
        """The blocks of a model's identity; InvalidInput as the identity's fingerprint and `__post_init__` raise it."""
        return cls(identity.fingerprint(), identity.dtype, identity.codec, identity.shape, identity.layout)

    @cached_property
    def payload_size(self) -> int:
        """Bytes of a payload."""
        return find_codec(self.codec).payload_size(self.dtype, self.shape)

    @cached_property
    def stem(self) -> bytes:
        """How the headers of all these blocks start."""
        sizes = (VERSION, HEADER_BYTES, self.shape[3], self.payload_size)
        names = (self.codec.encode(), self.dtype.encode())
        return _COMMON.pack(MAGIC, *sizes, *names, *self.shape, self.layout, self.fingerprint)

    @cached_property
    def value_size(self) -> int:
        """Bytes of a whole value."""
        return HEADER_BYTES + self.payload_size


@dataclass(frozen=True, slots=True)
class Header:
    """What a value says of itself."""

    payload_size: int
    codec: str
    dtype: str
    shape: tuple[int, int, int, int, int]
    layout: int
    fingerprint: bytes
    link: Link
    checksum: bytes


def pack_header(spec: BlockSpec, link: Link, payload: Buffer) -> bytes:
    """The 256 bytes to send before `payload`; InvalidInput where the payload hasn't the size of the spec."""
    size = memoryview(payload).nbytes
    if size != spec.payload_size:
        raise InvalidInput(f"payload: expected {spec.payload_size} bytes for {list(spec.shape)}, got {size}")
    stem = _stem(spec, link)
    return stem + _checksum(stem, payload)


def parse_header(value: Buffer) -> Header:
    """The header of a whole value, the checksum not looked at; BlockMismatch where it isn't a block at all."""
    if len(value) < HEADER_BYTES:
        raise BlockMismatch(Mismatch.TRUNCATED, f"at least {HEADER_BYTES} bytes", len(value))
    magic, version, size, tokens, payload, codec, dtype, *rest = _STEM.unpack_from(value)
    shape, (layout, fingerprint, chain, parent, digest, zeros) = tuple(rest[:5]), rest[5:]
    _check(
        (Mismatch.MAGIC, MAGIC, magic),
        (Mismatch.VERSION, VERSION, version),
        (Mismatch.HEADER, (HEADER_BYTES, shape[3], _ZEROS), (size, tokens, zeros)),
        (Mismatch.LENGTH, HEADER_BYTES + payload, len(value)),
    )
    checksum = bytes(value[_STEM_BYTES:HEADER_BYTES])
    link = Link(chain, parent, digest)
    return Header(payload, _name(codec), _name(dtype), shape, layout, fingerprint, link, checksum)


def verify(value: memoryview, spec: BlockSpec, link: Link) -> memoryview:
    """The payload of `value`, a view into it, once all of it is as expected; BlockMismatch else."""
    stem = _stem(spec, link)
    # Through bytes: memoryviews are compared element by element.
    header = bytes(value[:HEADER_BYTES])
    if len(value) != spec.value_size or not header.startswith(stem):
        _explain(parse_header(value), spec, link)
    payload = value[HEADER_BYTES:]
    checksum = _checksum(stem, payload)
    if not header.endswith(checksum):
        raise BlockMismatch(Mismatch.CHECKSUM, checksum, header[_STEM_BYTES:])
    return payload


def verify_key(value: memoryview, fingerprint: bytes, chain: bytes) -> Header:
    """The header of `value` once it is a whole block of that fingerprint and chain hash; BlockMismatch else."""
    header = parse_header(value)
    _check(
        (Mismatch.FINGERPRINT, fingerprint, header.fingerprint),
        (Mismatch.CHAIN, chain, header.link.chain),
        (Mismatch.CHECKSUM, _checksum(value[:_STEM_BYTES], value[HEADER_BYTES:]), header.checksum),
    )
    return header


def _stem(spec: BlockSpec, link: Link) -> bytes:
    stem = b"".join((spec.stem, link.chain, link.parent, link.tokens, _ZEROS))
    if len(stem) != _STEM_BYTES:
        raise InvalidInput(f"link: expected hashes of {HASH_BYTES} bytes, got {link}")
    return stem


def _checksum(stem: Buffer, payload: Buffer) -> bytes:
    digest = xxhash.xxh3_128(stem)
    digest.update(payload)
    return digest.digest()


def _explain(header: Header, spec: BlockSpec, link: Link) -> None:
    _check(
        (Mismatch.FINGERPRINT, spec.fingerprint, header.fingerprint),
        (Mismatch.CODEC, spec.codec, header.codec),
        (Mismatch.DTYPE, spec.dtype, header.dtype),
        (Mismatch.SHAPE, (spec.shape, spec.layout), (header.shape, header.layout)),
        (Mismatch.LENGTH, spec.payload_size, header.payload_size),
        (Mismatch.CHAIN, link.chain, header.link.chain),
        (Mismatch.PARENT, link.parent, header.link.parent),
        (Mismatch.TOKENS, link.tokens, header.link.tokens),
    )
    raise BlockMismatch(Mismatch.HEADER, "the header's bytes", "bytes that differ")


def _check(*facts: tuple[Mismatch, object, object]) -> None:
    for mismatch, expected, found in facts:
        if expected != found:
            raise BlockMismatch(mismatch, expected, found)


def _name(field: bytes) -> str:
    return field.rstrip(b"\0").decode("latin-1")


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "[" + ", ".join(_show(item) for item in value) + "]"
    return str(value)
