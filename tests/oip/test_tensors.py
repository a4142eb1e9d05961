"""Tensor: conversion without copies, and every check of datatype, shape and raw bytes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

from stagemesh.errors import InvalidInput
from stagemesh.oip.datatypes import DATATYPES
from stagemesh.oip.tensors import Tensor

from .strategies import arrays, same


@given(arrays())
def test_numpy_round_trip(array: np.ndarray[Any, Any]) -> None:
    tensor = Tensor.from_numpy(array)
    tensor.check("tensor")
    assert same(tensor.numpy(), array)


@given(arrays("FP32"))
def test_strided_and_big_endian_arrays_are_packed(array: np.ndarray[Any, Any]) -> None:
    for other in (array.T, array[..., ::-1] if array.ndim else array, array.astype(">f4")):
        assert same(Tensor.from_numpy(other).numpy(), other.astype("<f4"))


@pytest.mark.parametrize("name", sorted(set(DATATYPES) - {"BYTES"}))
def test_no_copy_either_way(name: str) -> None:
    array = np.zeros((2, 3), DATATYPES[name].dtype)
    tensor = Tensor.from_numpy(array)
    assert np.shares_memory(array, tensor.numpy())
    assert tensor.datatype == name


def test_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Tensor.from_numpy(np.zeros(3)).numpy()[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        Tensor.from_numpy(np.array(["a"])).numpy()[0] = b""


def test_text_becomes_utf8() -> None:
    for array in (np.array(["é", "b"]), np.array(["é", b"b"], object), np.array(["é".encode(), b"b"])):
        tensor = Tensor.from_numpy(array)
        assert bytes(tensor.raw) == b"\x02\0\0\0\xc3\xa9\x01\0\0\0b"
        assert tensor.numpy().tolist() == ["é".encode(), b"b"]


def test_unaligned_views_are_read() -> None:
    raw = memoryview(b"x" + np.arange(3, dtype="<f8").tobytes())[1:]
    assert Tensor("FP64", (3,), raw).numpy().tolist() == [0, 1, 2]


def test_bfloat16() -> None:
    array = Tensor("BF16", (1,), b"\x80\x3f").numpy()
    assert array.dtype == ml_dtypes.bfloat16
    assert float(array[0]) == 1.0


@pytest.mark.parametrize(
    "array",
    [np.zeros(1, complex), np.zeros(1, "M8[s]"), np.array([1], object), np.array([None]), np.array(["\ud800"])],
)
def test_what_the_protocol_cannot_carry(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        Tensor.from_numpy(array)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (Tensor("FP32", (2,), b"1234567"), r"byte size mismatch for FP32 \[2\]: expected 8, got 7"),
        (Tensor("FP32", (), b""), "expected 4, got 0"),
        (Tensor("FP32", (0,), b"1234"), "expected 0, got 4"),
        (Tensor("FP33", (0,), b""), "expected a datatype of BOOL, .*, got 'FP33'"),
        (Tensor("FP32", (-1,), b""), r"without negative dimensions, got \[-1\]"),
        (Tensor("UINT8", (2**62, 2**62), b""), "less than 2"),
        (Tensor("BYTES", (2**62,), b""), "less than 2"),
        (Tensor("UINT8", (0, 2**62), b""), "less than 2"),
        (Tensor("UINT8", (1,) * 65, b"1"), "at most 64 dimensions, got 65"),
        (Tensor("BOOL", (2,), b"\0\x02"), "BOOL elements of 0 or 1, got 2"),
        (Tensor("BYTES", (1,), b""), "expected 1 BYTES elements, got 0 and 0 bytes"),
        (Tensor("BYTES", (2**20,), b"\0" * 8), "got 2 and 0 bytes"),
        (Tensor("BYTES", (2**20 + 1,), b"\0" * 8), "at most 1048576 BYTES elements, got 1048577"),
        (Tensor("BYTES", (1,), b"\x05\0\0\0abcd"), "expected 5 bytes for BYTES element 0, got 4"),
        (Tensor("BYTES", (1,), b"\x01\0\0"), "got 0 and 3 bytes"),
        (Tensor("BYTES", (1,), b"\x01\0\0\0ab"), "got 1 bytes after them"),
    ],
)
def test_malformed(tensor: Tensor, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        tensor.check("input 'x'")
    with pytest.raises(InvalidInput):
        tensor.numpy()


@pytest.mark.parametrize("name", sorted(DATATYPES))
@pytest.mark.parametrize("shape", [(0,), (0, 2**40, 2**19), (2, 0, 3)])
def test_tensors_without_elements(name: str, shape: tuple[int, ...]) -> None:
    array = Tensor(name, shape, b"").numpy()
    assert array.shape == shape
    assert Tensor.from_numpy(array) == Tensor(name, shape, b"")
