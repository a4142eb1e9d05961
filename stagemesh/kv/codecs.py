"""Codecs: how a block's array becomes a payload. `none` is exact; int8 and fp8_e4m3 halve a 16-bit payload or better.

An array is [layers, 2, kv_heads, tokens, head_dim] in C order: keys at index 0 of the second axis, values at 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import numpy.typing as npt

from stagemesh.errors import InvalidInput
from stagemesh.oip.datatypes import DATATYPES
from stagemesh.oip.tensors import Tensor

KV_DTYPES = ("FP32", "FP16", "BF16")

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Shape = tuple[int, ...]


def kv_dtype(name: str) -> np.dtype[Any]:
    """The little-endian numpy dtype of a KV dtype's OIP name; InvalidInput for any other name."""
    if name not in KV_DTYPES:
        raise InvalidInput(f"expected a KV dtype of {', '.join(KV_DTYPES)}, got {name!r}")
    return DATATYPES[name].dtype


class Codec(ABC):
    """One way to write an array as bytes; `exact` says whether decoding gives the very same bits."""

    name: ClassVar[str]
    exact: ClassVar[bool]

    @abstractmethod
    def payload_size(self, dtype: str, shape: Shape) -> int:
        """The bytes of a payload, the same for every block of that dtype and shape."""

    @abstractmethod
    def encode(self, array: Array) -> memoryview:
        """The payload of `array`, maybe over its own memory. Raises InvalidInput where it can't be encoded."""

    @abstractmethod
    def decode(self, payload: memoryview, dtype: str, shape: Shape) -> Array:
        """The array of a payload of the right size, maybe over its memory; never raises for what the bytes are."""


class NoCodec(Codec):
    """The array's own bytes, little-endian."""

    name = "none"
    exact = True

    def payload_size(self, dtype: str, shape: Shape) -> int:
        return prod(shape) * kv_dtype(dtype).itemsize

    def encode(self, array: Array) -> memoryview:
        return memoryview(Tensor.from_numpy(array).raw)

    def decode(self, payload: memoryview, dtype: str, shape: Shape) -> Array:
        return np.frombuffer(payload.toreadonly(), kv_dtype(dtype)).reshape(shape)


class ScaledCodec(Codec):
    """One float32 scale per layer, keys or values, and head; then one byte an element, C order.

    value = code * scale, scale = (largest magnitude of the head) / LARGEST; a head of zeros has scale 0.
    """

    exact = False
    LARGEST: ClassVar[float]

    def payload_size(self, dtype: str, shape: Shape) -> int:
        kv_dtype(dtype)
        return 4 * prod(shape[:3]) + prod(shape)

    def encode(self, array: Array) -> memoryview:
        values: Floats = np.asarray(array, np.float32)
        with np.errstate(over="ignore"):
            scales: Floats = np.abs(values).max(axis=(3, 4), keepdims=True) / np.float32(self.LARGEST)
        if not np.isfinite(scales).all():
            raise InvalidInput(f"codec {self.name}: expected finite numbers, got NaN or infinity")
        # A scale too small to divide by stands for zeros.
        scales[scales < np.finfo(np.float32).tiny] = 0
        divisors: Floats = np.where(scales == 0, np.float32(np.inf), scales)
        codes = self._codes(values / divisors)
        payload = np.empty(4 * scales.size + codes.size, np.uint8)
        payload[: 4 * scales.size] = scales.astype("<f4").reshape(-1).view(np.uint8)
        payload[4 * scales.size :] = codes.reshape(-1)
        return payload.data

    def decode(self, payload: memoryview, dtype: str, shape: Shape) -> Array:
        heads = prod(shape[:3])
        scales = np.frombuffer(payload, "<f4", heads).reshape(*shape[:3], 1, 1)
        with np.errstate(all="ignore"):
            codes = np.frombuffer(payload, np.uint8, offset=4 * heads).reshape(shape)
            values: Array = (self._values(codes) * scales).astype(kv_dtype(dtype), copy=False)
        return values

    @abstractmethod
    def _codes(self, scaled: Floats) -> Codes:
        """Numbers of -LARGEST to LARGEST as one byte each."""

    @abstractmethod
    def _values(self, codes: Codes) -> Floats:
        """What the bytes stand for, before the scale."""


class Int8Codec(ScaledCodec):
    """Signed bytes of -127 to 127, rounded half to even."""

    name = "int8"
    LARGEST = 127.0

    def _codes(self, scaled: Floats) -> Codes:
        return np.clip(np.rint(scaled), -self.LARGEST, self.LARGEST).astype(np.int8).view(np.uint8)

    def _values(self, codes: Codes) -> Floats:
        return codes.view(np.int8).astype(np.float32)


class Fp8Codec(ScaledCodec):
    """Bytes of float8 e4m3 (finite, with NaN), rounded half to even."""

    name = "fp8_e4m3"
    LARGEST = 448.0
    _TABLE: ClassVar[Floats] = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)

    def _codes(self, scaled: Floats) -> Codes:
        clipped = np.clip(scaled, -self.LARGEST, self.LARGEST)
        return clipped.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)

    def _values(self, codes: Codes) -> Floats:
        found: Floats = self._TABLE[codes]
        return found


CODECS: dict[str, Codec] = {codec.name: codec for codec in (NoCodec(), Int8Codec(), Fp8Codec())}


def find_codec(name: str) -> Codec:
    """The codec called `name`; InvalidInput if there is none."""
    found = CODECS.get(name)
    if found is None:
        raise InvalidInput(f"expected a codec of {', '.join(CODECS)}, got {name!r}")
    return found
