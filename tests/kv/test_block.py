"""Blocks: what was sealed is read in place; whatever else the bytes are ends as a typed mismatch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagemesh.errors import InvalidInput
from stagemesh.kv.block import (
    HEADER_BYTES,
    BlockMismatch,
    BlockSpec,
    Mismatch,
    pack_header,
    parse_header,
    verify,
    verify_key,
)
from tests.kv.strategies import FIELDS, IDENTITY, LINKS, PAYLOAD, SPEC, value_of

LINK = LINKS[1]
# By region of a value: its bytes, and how a reader that expects a block calls a change there.
REGIONS = {
    "magic": (range(8), {Mismatch.MAGIC}),
    "version": (range(8, 10), {Mismatch.VERSION}),
    "header size": (range(10, 12), {Mismatch.HEADER}),
    "tokens": (range(12, 16), {Mismatch.HEADER}),
    "payload size": (range(16, 24), {Mismatch.LENGTH}),
    "codec": (range(24, 36), {Mismatch.CODEC}),
    "dtype": (range(36, 48), {Mismatch.DTYPE}),
    "shape": (range(48, 68), {Mismatch.SHAPE, Mismatch.HEADER}),
    "layout": (range(68, 72), {Mismatch.SHAPE}),
    "fingerprint": (range(72, 104), {Mismatch.FINGERPRINT}),
    "chain": (range(104, 136), {Mismatch.CHAIN}),
    "parent": (range(136, 168), {Mismatch.PARENT}),
    "token digest": (range(168, 200), {Mismatch.TOKENS}),
    "zeros": (range(200, 240), {Mismatch.HEADER}),
    "checksum": (range(240, 256), {Mismatch.CHECKSUM}),
    "payload": (range(256, 256 + len(PAYLOAD)), {Mismatch.CHECKSUM}),
}


def mismatch_of(value: bytes, **expected: Any) -> Mismatch:
    with pytest.raises(BlockMismatch) as caught:
        verify(memoryview(value), expected.get("spec", SPEC), expected.get("link", LINK))
    return caught.value.mismatch


def test_a_block_is_read_where_it_lies() -> None:
    buffer = bytearray(value_of())
    payload = verify(memoryview(buffer), SPEC, LINK)
    assert payload == PAYLOAD
    buffer[HEADER_BYTES] ^= 1
    assert payload != PAYLOAD
    assert len(buffer) == SPEC.value_size == HEADER_BYTES + len(PAYLOAD)


def test_a_header_says_what_the_block_is() -> None:
    header = verify_key(memoryview(value_of()), SPEC.fingerprint, LINK.chain)
    assert (header.link, header.shape, header.codec, header.dtype) == (LINK, SPEC.shape, "none", "FP32")
    assert header == parse_header(value_of())


def test_the_regions_are_the_whole_value() -> None:
    covered = [position for positions, _ in REGIONS.values() for position in positions]
    assert covered == list(range(SPEC.value_size))


@pytest.mark.parametrize("region", REGIONS)
@given(data=st.data())
def test_a_flipped_bit_in_any_region_is_found_and_named(region: str, data: st.DataObject) -> None:
    positions, names = REGIONS[region]
    changed = bytearray(value_of())
    changed[data.draw(st.sampled_from(positions))] ^= 1 << data.draw(st.integers(0, 7))
    assert mismatch_of(bytes(changed)) in names
    with pytest.raises(BlockMismatch):
        verify_key(memoryview(changed), SPEC.fingerprint, LINK.chain)


@given(st.binary(max_size=1200) | st.binary(max_size=1200).map(lambda tail: value_of()[:HEADER_BYTES] + tail))
def test_garbage_of_any_size_is_a_mismatch(garbage: bytes) -> None:
    if garbage == value_of():
        return
    mismatch_of(garbage)
    with pytest.raises(BlockMismatch):
        verify_key(memoryview(garbage), SPEC.fingerprint, LINK.chain)


@given(st.integers(0, SPEC.value_size - 1))
def test_a_cut_value_is_a_mismatch(size: int) -> None:
    assert mismatch_of(value_of()[:size]) is (Mismatch.TRUNCATED if size < HEADER_BYTES else Mismatch.LENGTH)


def test_a_longer_value_is_a_mismatch() -> None:
    assert mismatch_of(value_of() + b"\0") is Mismatch.LENGTH


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"weights": bytes(32)}, Mismatch.FINGERPRINT),
        ({"codec": "int8"}, Mismatch.FINGERPRINT),
        ({"rope": {"theta": 1.0}}, Mismatch.FINGERPRINT),
        ({"block_size": 32}, Mismatch.FINGERPRINT),
    ],
)
def test_another_models_block_is_named_so(change: dict[str, Any], expected: Mismatch) -> None:
    spec = BlockSpec.of(replace(IDENTITY, **change))
    assert mismatch_of(value_of(spec=spec, payload=bytes(spec.payload_size))) is expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"codec": "int8"}, Mismatch.CODEC),
        ({"dtype": "FP16"}, Mismatch.DTYPE),
        ({"shape": (1, 2, 2, 16, 4)}, Mismatch.SHAPE),
        ({"layout": 7}, Mismatch.SHAPE),
    ],
)
def test_a_forged_fingerprint_is_not_enough(change: dict[str, Any], expected: Mismatch) -> None:
    spec = replace(SPEC, **change)
    assert mismatch_of(value_of(spec=spec, payload=bytes(spec.payload_size))) is expected


def test_a_block_of_another_place_is_named_so() -> None:
    assert mismatch_of(value_of(LINKS[2])) is Mismatch.CHAIN
    assert mismatch_of(value_of(replace(LINK, parent=LINKS[2].parent))) is Mismatch.PARENT
    assert mismatch_of(value_of(replace(LINK, tokens=LINKS[2].tokens))) is Mismatch.TOKENS


def test_the_message_says_what_was_expected_and_found() -> None:
    with pytest.raises(BlockMismatch, match=f"block chain: expected {LINK.chain.hex()}, found {LINKS[2].chain.hex()}"):
        verify(memoryview(value_of(LINKS[2])), SPEC, LINK)


def test_a_writer_cannot_seal_a_wrong_block() -> None:
    with pytest.raises(InvalidInput, match="payload: expected 1024 bytes"):
        pack_header(SPEC, LINK, PAYLOAD[:-1])
    with pytest.raises(InvalidInput, match="expected hashes of 32 bytes"):
        pack_header(SPEC, replace(LINK, chain=b"short"), PAYLOAD)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (2, 3, 1, 16, 4)},
        {"shape": (2, 2, 1, 16)},
        {"shape": (2**32, 2, 1, 16, 4)},
        {"shape": (2**20, 2, 64, 16, 4)},
        {"codec": "zip"},
        {"dtype": "INT8"},
        {"fingerprint": b""},
    ],
)
def test_an_impossible_spec_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        replace(SPEC, **change)


def test_the_demo_models_block_has_its_size() -> None:
    identity = replace(IDENTITY, **{**FIELDS, "layers": 30, "kv_heads": 3, "head_dim": 64})
    assert BlockSpec.of(identity).payload_size == 737_280
