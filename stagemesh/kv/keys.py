"""Keys of KV blocks: the fingerprint of all that shapes the bytes, the tenant's salt, the chain of token blocks.

Everything is sha256 over canonical little-endian bytes, hence the same in any process and any language.
docs/kv-format.md has the bytes, tests/kv/vectors.json examples.
"""

from __future__ import annotations

import hmac
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from stagemesh.errors import ConfigError, InvalidInput
from stagemesh.kv.names import escape, unescape

BLOCK_SIZE = 16
LAYOUT_VERSION = 1
HASH_BYTES = 32
MIN_SECRET_BYTES = 16
MAX_TOKEN = 2**32 - 1

FINGERPRINT_DOMAIN = b"stagemesh.kv.fingerprint.v1\0"
TENANT_DOMAIN = b"stagemesh.kv.tenant.v1\0"
CHAIN_DOMAIN = b"stagemesh.kv.chain.v1\0"

Setting = str | float | Sequence[float]
"""A setting that shapes the bytes: text, a number (bools and ints count as their float), or numbers."""

Tokens = Sequence[int] | npt.NDArray[np.integer[Any]]

_HEX = f"[0-9a-f]{{{2 * HASH_BYTES}}}"
_KEY = re.compile(rf"(?P<namespace>[^/]+)/(?P<fingerprint>{_HEX})/(?P<chain>{_HEX})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """All that shapes the bytes of a model's KV blocks: two models that agree here may share blocks.

    `weights` is the sha256 of the weights; `dtype` the OIP name of the stored type; `rope` every parameter of the
    rotary embedding, by name; `extra` whatever else shapes the bytes (adapter, tensor-parallel rank, window).
    """

    weights: bytes
    dtype: str
    layers: int
    kv_heads: int
    head_dim: int
    rope: Mapping[str, Setting]
    block_size: int = BLOCK_SIZE
    codec: str = "none"
    layout: int = LAYOUT_VERSION
    extra: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """The shape of one block: layers, keys and values, kv heads, tokens, head dim."""
        return self.layers, 2, self.kv_heads, self.block_size, self.head_dim

    def fingerprint(self) -> bytes:
        """32 bytes that differ whenever anything here differs; InvalidInput for a value that can't be encoded."""
        counts = (self.layers, self.kv_heads, self.head_dim, self.block_size, self.layout)
        canonical = (
            FINGERPRINT_DOMAIN,
            _hash_of("weights", self.weights),
            b"".join(_u32("dimension", count, 1) for count in counts),
            _text("dtype", self.dtype),
            _text("codec", self.codec),
            _settings("rope", self.rope),
            _settings("extra", self.extra),
        )
        return sha256(b"".join(canonical)).digest()


def tenant_salt(secret: bytes, tenant: str) -> bytes:
    """32 bytes that only a holder of the server's `secret` can make of the tenant's name.

    Raises ConfigError for a secret of less than 16 bytes, InvalidInput for a name that can't be one.
    """
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(f"expected a tenant secret of at least {MIN_SECRET_BYTES} bytes, found {len(secret)}")
    escape(tenant, "tenant")
    return hmac.digest(secret, TENANT_DOMAIN + tenant.encode(), "sha256")


def chain_root(fingerprint: bytes, salt: bytes) -> bytes:
    """The parent of a prompt's first block: 32 bytes of `fingerprint` and a tenant's `salt`."""
    return sha256(CHAIN_DOMAIN + _hash_of("fingerprint", fingerprint) + _hash_of("salt", salt)).digest()


@dataclass(frozen=True, slots=True)
class Link:
    """One block's place in its chain: its own hash, its parent's, and the digest of its token ids (32 bytes each)."""

    chain: bytes
    parent: bytes
    tokens: bytes


def chain_links(tokens: Tokens, parent: bytes, block_size: int = BLOCK_SIZE) -> list[Link]:
    """The links of the full blocks of `tokens`, in order; tokens past the last full block are left out.

    `parent` is the chain root, or the hash of the block before. Raises InvalidInput for ids that aren't 0…2**32-1.
    """
    encoded, size = encode_tokens(tokens), 4 * block_size
    links: list[Link] = []
    _hash_of("parent", parent)
    for start in range(0, len(encoded) - size + 1, size):
        block = encoded[start : start + size]
        links.append(Link(sha256(parent + block).digest(), parent, sha256(block).digest()))
        parent = links[-1].chain
    return links


def encode_tokens(tokens: Tokens) -> bytes:
    """Token ids as unsigned 32-bit little-endian integers; InvalidInput for anything else than ids of 0…2**32-1."""
    array = np.asarray(tokens) if len(tokens) else np.empty(0, np.uint32)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InvalidInput(f"tokens: expected a list of integers, got {array.dtype} of shape {list(array.shape)}")
    if array.size and (int(array.min()) < 0 or int(array.max()) > MAX_TOKEN):
        raise InvalidInput(f"tokens: expected ids of 0 to {MAX_TOKEN}, got {array.min()} to {array.max()}")
    return array.astype("<u4").tobytes()


@dataclass(frozen=True, slots=True)
class BlockKey:
    """Where a block lies: the pool's namespace, the fingerprint and the chain hash."""

    namespace: str
    fingerprint: bytes
    chain: bytes

    def __str__(self) -> str:
        """The Redis key. It never holds a brace, so Redis Cluster hashes all of it. Raises InvalidInput."""
        fingerprint, chain = _hash_of("fingerprint", self.fingerprint), _hash_of("chain", self.chain)
        return f"{escape(self.namespace, 'namespace')}/{fingerprint.hex()}/{chain.hex()}"

    @classmethod
    def parse(cls, text: str) -> BlockKey:
        """The key that `str` made `text` of; InvalidInput for any other text."""
        match = _KEY.fullmatch(text)
        if match is None:
            raise InvalidInput(f"expected a key like 'namespace/fingerprint/chain' in hex, got {text[:1024]!r}")
        namespace = unescape(match["namespace"], "namespace")
        return cls(namespace, bytes.fromhex(match["fingerprint"]), bytes.fromhex(match["chain"]))


def _hash_of(name: str, value: bytes) -> bytes:
    if len(value) != HASH_BYTES:
        raise InvalidInput(f"{name}: expected {HASH_BYTES} bytes, got {len(value)}")
    return value


def _u32(name: str, value: int, least: int = 0) -> bytes:
    if not least <= value < 2**32:
        raise InvalidInput(f"{name}: expected an integer of {least} to {2**32 - 1}, got {value}")
    return struct.pack("<I", value)


def _text(name: str, value: str) -> bytes:
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name}: expected text that UTF-8 can carry, got {value!r}") from error
    return _u32(name, len(encoded)) + encoded


def _number(name: str, value: float) -> bytes:
    if not isinstance(value, int | float) or not -(2**1023) <= value <= 2**1023:
        raise InvalidInput(f"{name}: expected a finite number, got {value!r}")
    exact = float(value) + 0.0  # -0.0 becomes 0.0
    if not isfinite(exact) or exact != value:
        raise InvalidInput(f"{name}: expected a number that a 64-bit float holds exactly, got {value!r}")
    return struct.pack("<d", exact)


def _setting(name: str, value: Setting) -> bytes:
    if isinstance(value, str):
        return b"s" + _text(name, value)
    if isinstance(value, int | float):
        return b"n" + _number(name, value)
    return b"l" + _u32(name, len(value)) + b"".join(_number(name, item) for item in value)


def _settings(where: str, settings: Mapping[str, Setting]) -> bytes:
    entries = sorted((_text(where, name)[4:], name, value) for name, value in settings.items())
    encoded = (_text(where, name) + _setting(f"{where}.{name}", value) for _, name, value in entries)
    return _u32(where, len(entries)) + b"".join(encoded)
