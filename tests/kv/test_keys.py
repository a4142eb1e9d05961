"""Keys: everything that shapes the bytes changes the fingerprint; names with separators never collide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagemesh.errors import ConfigError, InvalidInput
from stagemesh.kv.keys import BlockKey, Identity, chain_links, chain_root, encode_tokens, tenant_salt
from stagemesh.kv.names import escape, unescape
from tests.kv.strategies import IDENTITY, LINKS

HASH = bytes(range(32))
CHANGES: list[dict[str, Any]] = [
    {"weights": bytes(32)},
    {"dtype": "FP16"},
    {"layers": 3},
    {"kv_heads": 2},
    {"head_dim": 8},
    {"rope": {"theta": 5e5, "type": "default", "factors": (1.0, 2.0)}},
    {"rope": {"theta": 1e4, "type": "default"}},
    {"rope": {"theta": 1e4, "type": "default", "factors": (2.0, 1.0)}},
    {"rope": {"theta": "10000.0", "type": "default", "factors": (1.0, 2.0)}},
    {"block_size": 32},
    {"codec": "int8"},
    {"layout": 2},
    {"extra": {"adapter": "x"}},
    {"extra": {"adapte": "rx"}},
]


def test_every_field_shapes_the_fingerprint() -> None:
    prints = [identity.fingerprint() for identity in (IDENTITY, *(replace(IDENTITY, **change) for change in CHANGES))]
    assert len(set(prints)) == len(CHANGES) + 1


def test_the_order_of_settings_and_the_kind_of_a_number_do_not() -> None:
    other = replace(IDENTITY, rope={"factors": [1, 2], "type": "default", "theta": 10_000})
    assert other.fingerprint() == IDENTITY.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": b"short"}, "weights: expected 32 bytes, got 5"),
        ({"layers": 0}, "dimension: expected an integer of 1 to"),
        ({"rope": {"theta": float("nan")}}, "rope.theta: expected a finite number"),
        ({"rope": {"theta": 2**53 + 1}}, "rope.theta: expected a number that a 64-bit float holds exactly"),
        ({"rope": {"theta": 10**400}}, "rope.theta: expected a finite number"),
        ({"extra": {"adapter": "\ud800"}}, "extra.adapter: expected text that UTF-8 can carry"),
    ],
)
def test_what_cannot_be_encoded_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(IDENTITY, **change).fingerprint()


def test_tenants_share_nothing() -> None:
    salts = [tenant_salt(b"s" * 16, tenant) for tenant in ("a", "b", "a/b")] + [tenant_salt(b"t" * 16, "a")]
    roots = {chain_root(HASH, salt) for salt in salts}
    assert len(roots) == 4
    assert len({chain_links(range(16), root)[0].chain for root in roots}) == 4
    with pytest.raises(ConfigError, match="at least 16 bytes, found 5"):
        tenant_salt(b"short", "a")


@given(st.lists(st.integers(0, 2**32 - 1), max_size=80), st.integers(1, 20), st.integers(0, 80))
def test_a_chain_is_extended_as_if_computed_at_once(tokens: list[int], block_size: int, at: int) -> None:
    links = chain_links(tokens, HASH, block_size)
    assert len(links) == len(tokens) // block_size
    assert [link.parent for link in links] == [HASH, *(link.chain for link in links[:-1])][: len(links)]
    cut = min(at // block_size, len(links))
    parent = links[cut - 1].chain if cut else HASH
    assert links[cut:] == chain_links(tokens[cut * block_size :], parent, block_size)
    assert links == chain_links(np.array(tokens, np.int64), HASH, block_size)


def test_a_changed_token_changes_all_later_blocks_and_none_before() -> None:
    changed = [*range(64)]
    changed[17] = 99
    other = chain_links(changed, LINKS[0].parent)
    assert other[0] == LINKS[0]
    assert not {link.chain for link in other[1:]} & {link.chain for link in LINKS}


@pytest.mark.parametrize("tokens", [[-1], [2**32], [1.5], ["a"], [[1]], [2**70], [True]])
def test_what_is_no_token_is_refused(tokens: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="tokens: expected"):
        encode_tokens(tokens)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_names_never_collide_and_hold_no_separator(one: str, other: str) -> None:
    escaped = [escape(name) for name in (one, other)]
    assert (escaped[0] == escaped[1]) == (one == other)
    assert not set("".join(escaped)) & set("/{}:@ \r\n\0*?[]\\")
    assert [unescape(name) for name in escaped] == [one, other]


@pytest.mark.parametrize("name", ["", "x" * 256, "\ud800", "é" * 128])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="name: expected"):
        escape(name)


@given(st.text(max_size=30) | st.from_regex(r"(%[0-9A-Fa-f]{2}|[a-z/])*", fullmatch=True))
def test_only_what_was_escaped_is_unescaped(text: str) -> None:
    try:
        name = unescape(text)
    except InvalidInput:
        return
    assert escape(name) == text


@given(st.text(min_size=1, max_size=30), st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_key_is_read_back(namespace: str, fingerprint: bytes, chain: bytes) -> None:
    key = BlockKey(namespace, fingerprint, chain)
    assert BlockKey.parse(str(key)) == key


@pytest.mark.parametrize("change", [str.upper, lambda key: key + "0", lambda key: "a/" + key, lambda key: key[2:]])
def test_another_key_is_refused(change: Any) -> None:
    with pytest.raises(InvalidInput):
        BlockKey.parse(change(f"/{BlockKey('p', HASH, HASH)}"))


def test_the_shape_is_the_demo_models() -> None:
    identity = Identity(weights=HASH, dtype="FP32", layers=30, kv_heads=3, head_dim=64, rope={"theta": 1e5})
    assert identity.shape == (30, 2, 3, 16, 64)
