"""Blocks for tests: a small model's spec, links and values."""

from __future__ import annotations

from typing import Any

from stagemesh.kv.block import BlockSpec, pack_header
from stagemesh.kv.codecs import find_codec
from stagemesh.kv.keys import Identity, Link, chain_links, chain_root, tenant_salt
from tests.kv.cases import SECRET, SMALL, array_of

FIELDS: dict[str, Any] = {**SMALL, "rope": {"theta": 1e4, "type": "default", "factors": (1.0, 2.0)}}
IDENTITY = Identity(**FIELDS)
SPEC = BlockSpec.of(IDENTITY)
LINKS: list[Link] = chain_links(range(64), chain_root(SPEC.fingerprint, tenant_salt(SECRET, "default")))
PAYLOAD = bytes(find_codec("none").encode(array_of(IDENTITY)))


def value_of(link: Link = LINKS[1], spec: BlockSpec = SPEC, payload: bytes = PAYLOAD) -> bytes:
    """A whole value as it lies in Redis."""
    return pack_header(spec, link, payload) + payload
