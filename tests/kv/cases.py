"""The cases of vectors.json. `python -m tests.kv.cases` writes the file anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stagemesh.kv.block import BlockSpec, pack_header
from stagemesh.kv.codecs import Array, find_codec, kv_dtype
from stagemesh.kv.keys import BlockKey, Identity, Link, chain_links, chain_root, tenant_salt
from stagemesh.kv.names import escape

VECTORS = Path(__file__).with_name("vectors.json")
SECRET = bytes(range(32))
TOKENS = [0, 1, 2, 49_151, 65_536, 2**32 - 1, *range(100, 133)]
NAMES = ["default", "a/b", "a%2Fb", "{tenant}", "name with blanks", "Zürich", "𝄞", "~._-", "a\n\0"]

SMALL = {"weights": bytes(range(32)), "dtype": "FP32", "layers": 2, "kv_heads": 1, "head_dim": 4}
IDENTITIES: dict[str, dict[str, Any]] = {
    "plain": {**SMALL, "rope": {"theta": 10_000}},
    "int8": {**SMALL, "rope": {"theta": 10_000.0}, "codec": "int8"},
    "fp8": {**SMALL, "dtype": "BF16", "rope": {"theta": 10_000.0}, "codec": "fp8_e4m3", "block_size": 4},
    "scaled rope": {
        **SMALL,
        "dtype": "FP16",
        "rope": {"theta": 5e5, "type": "llama3", "factors": (1.0, 4, 0.5), "interleaved": False},
        "extra": {"adapter": "Zürich", "rank": 1},
    },
}


def array_of(identity: Identity) -> Array:
    """The array of the vectors: element i, in C order, is ((37 * i) mod 257 - 128) / 16."""
    count = int(np.prod(identity.shape))
    values = (np.arange(count) * 37 % 257 - 128) / 16
    return values.reshape(identity.shape).astype(kv_dtype(identity.dtype))


def describe(fields: dict[str, Any], tenant: str) -> dict[str, Any]:
    """One vector: the inputs, and every value on the way to a block."""
    identity = Identity(**fields)
    fingerprint, salt = identity.fingerprint(), tenant_salt(SECRET, tenant)
    root = chain_root(fingerprint, salt)
    links = chain_links(TOKENS, root, identity.block_size)
    payload = find_codec(identity.codec).encode(array_of(identity))
    return {
        "identity": fields | {"weights": fields["weights"].hex()},
        "tenant": tenant,
        "fingerprint": fingerprint.hex(),
        "salt": salt.hex(),
        "root": root.hex(),
        "links": [_link(link) for link in links],
        "key": str(BlockKey("pool/1", fingerprint, links[0].chain)),
        "payload": payload.hex(),
        "header": pack_header(BlockSpec.of(identity), links[0], payload).hex(),
    }


def vectors() -> dict[str, Any]:
    """All of vectors.json."""
    return {
        "secret": SECRET.hex(),
        "namespace": "pool/1",
        "tokens": TOKENS,
        "names": {name: escape(name) for name in NAMES},
        "blocks": {
            name: describe(fields, tenant)
            for (name, fields), tenant in zip(IDENTITIES.items(), ("default", "a/b", "{x}", "Zürich"), strict=True)
        },
    }


def _link(link: Link) -> dict[str, str]:
    return {"chain": link.chain.hex(), "parent": link.parent.hex(), "tokens": link.tokens.hex()}


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
