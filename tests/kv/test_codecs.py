"""Codecs: `none` gives the same bits, the others stay within what their codes can hold; no payload crashes a reader."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stagemesh.errors import InvalidInput
from stagemesh.kv.codecs import CODECS, KV_DTYPES, Array, find_codec, kv_dtype

SHAPE = (2, 2, 3, 4, 8)
FLOATS = hnp.arrays(np.float32, SHAPE, elements=st.floats(-(2.0**100), 2.0**100, width=32))
# The largest error of a code, as a share of the largest magnitude of the head.
ERRORS = {"int8": 0.5 / 127, "fp8_e4m3": 16 / 448}


@pytest.mark.parametrize("dtype", KV_DTYPES)
def test_none_gives_the_same_bits_without_a_copy(dtype: str) -> None:
    array = np.frombuffer(np.random.default_rng(1).bytes(2 * 2 * 3 * 4 * 8 * 4), kv_dtype(dtype))[:384].reshape(SHAPE)
    codec = find_codec("none")
    payload = codec.encode(array)
    assert np.shares_memory(np.frombuffer(payload, np.uint8), array)
    assert payload.nbytes == codec.payload_size(dtype, SHAPE)
    decoded = codec.decode(payload, dtype, SHAPE)
    assert decoded.tobytes() == array.tobytes()
    assert decoded.dtype == array.dtype
    assert not decoded.flags.writeable


@pytest.mark.parametrize("name", ERRORS)
@given(array=FLOATS)
def test_lossy_codecs_stay_within_their_error(name: str, array: Array) -> None:
    codec = find_codec(name)
    payload = codec.encode(array)
    assert payload.nbytes == codec.payload_size("FP32", SHAPE) == 4 * 12 + 384
    largest = np.abs(array).max(axis=(3, 4), keepdims=True).astype(np.float64)
    error = np.abs(codec.decode(payload, "FP32", SHAPE).astype(np.float64) - array)
    assert (error <= largest * ERRORS[name] * (1 + 1e-5) + 1e-35).all()


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("dtype", KV_DTYPES)
def test_lossy_codecs_keep_the_dtype_and_the_heads_apart(name: str, dtype: str) -> None:
    codec = find_codec(name)
    array = np.random.default_rng(2).standard_normal(SHAPE).astype(kv_dtype(dtype))
    array[1, 0, 2] *= 1000
    array[0, 1, 1] = 0
    decoded = codec.decode(codec.encode(array), dtype, SHAPE)
    assert decoded.dtype == kv_dtype(dtype)
    largest = np.abs(array.astype(np.float64)).max(axis=(3, 4), keepdims=True)
    error = np.abs(decoded.astype(np.float64) - array)
    assert (error <= largest * (ERRORS[name] + 1 / 128)).all()
    assert not decoded[0, 1, 1].any()


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_lossy_codecs_refuse_what_is_no_number(name: str, bad: float) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[1, 1, 1, 1, 1] = bad
    with pytest.raises(InvalidInput, match=f"codec {name}: expected finite numbers"):
        find_codec(name).encode(array)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("dtype", KV_DTYPES)
@given(data=st.data())
def test_any_payload_decodes_to_the_shape(name: str, dtype: str, data: st.DataObject) -> None:
    codec = find_codec(name)
    size = codec.payload_size(dtype, (1, 2, 1, 2, 2))
    payload = data.draw(st.binary(min_size=size, max_size=size))
    decoded = codec.decode(memoryview(payload), dtype, (1, 2, 1, 2, 2))
    assert decoded.shape == (1, 2, 1, 2, 2)
    assert decoded.dtype == kv_dtype(dtype)


def test_only_none_is_exact() -> None:
    assert [name for name, codec in CODECS.items() if codec.exact] == ["none"]
    with pytest.raises(InvalidInput, match="expected a codec of none, int8, fp8_e4m3, got 'zip'"):
        find_codec("zip")
    with pytest.raises(InvalidInput, match="expected a KV dtype of FP32, FP16, BF16, got 'INT8'"):
        kv_dtype("INT8")
