"""Small tensors kept as Python numbers, so that sizes computed by a graph stay sizes.

A shape that a network computes (Shape, Gather, Mul, Concat, then Reshape) may hold symbols while the network
is exported. numpy carries them through: an array of a native dtype where every value is a plain number, an array
of objects where one is a symbol.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[Any]

MOST_ELEMENTS = 1024
"""Constants up to this size are known to operators that need numbers."""

_NATIVE: dict[torch.dtype, type[np.generic]] = {
    torch.bool: np.bool_,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
}
_SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


@dataclass(frozen=True, slots=True, eq=False)
class HostTensor:
    """A tensor whose values are known to Python; `tensor` is the same on the device, where it is there already."""

    array: Array
    dtype: torch.dtype
    tensor: torch.Tensor | None = None

    @classmethod
    def of(cls, values: Iterable[Any], dtype: torch.dtype = torch.int64) -> HostTensor:
        """A vector of numbers or symbols."""
        return cls.wrap(_objects(list(values)), dtype)

    @classmethod
    def wrap(cls, array: Array | Any, dtype: torch.dtype) -> HostTensor:
        """The values of `array` in `dtype`, wrapped around and rounded as a device would."""
        objects = array if isinstance(array, np.ndarray) else _objects(array)
        if objects.dtype == object and any(isinstance(value, _SYMBOLS) for value in objects.flat):
            return cls(objects, dtype)
        return cls(_to_native(objects, dtype), dtype)

    @property
    def is_symbolic(self) -> bool:
        """Whether some value is a symbol."""
        return self.array.dtype == object

    def to(self, device: torch.device) -> torch.Tensor:
        """The tensor on `device`."""
        if self.tensor is not None:
            return self.tensor
        if not self.is_symbolic:
            return torch.tensor(self.array, dtype=self.dtype, device=device)
        parts = [torch.full((), value, dtype=self.dtype, device=device) for value in self.array.flat]
        return torch.stack(parts).reshape(self.array.shape)

    def cast(self, dtype: torch.dtype) -> HostTensor:
        """The values in `dtype`; a float becomes an integer by dropping its fraction."""
        if not self.is_symbolic:
            return HostTensor(_to_native(self.array, dtype), dtype)
        return HostTensor.wrap(_cast_symbols(self.array, dtype), dtype)


def host_constant(tensor: torch.Tensor) -> Array | None:
    """The values of a small constant, None for one too large or of a type that Python can't hold."""
    if tensor.numel() > MOST_ELEMENTS or tensor.dtype not in _NATIVE:
        return None
    return tensor.numpy()


def divide(left: Array, right: Array) -> Array:
    """Division that drops the fraction of integers, as ONNX wants it."""
    if left.dtype == object or right.dtype == object:
        return _divide_symbols(left, right)
    if np.issubdtype(left.dtype, np.floating):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.true_divide(left, right))
    if not np.all(right):
        raise ZeroDivisionError("an integer is divided by 0")
    quotient = np.abs(left) // np.abs(right)
    return np.asarray(np.where((left < 0) != (right < 0), -quotient, quotient))


def pointwise(function: Callable[..., Any]) -> Callable[..., Array]:
    """`function` of single values, numbers or symbols, over whole arrays, which broadcast."""
    vectorised = np.frompyfunc(function, function.__code__.co_argcount, 1)

    def apply(*arrays: Array) -> Array:
        result = vectorised(*arrays)
        return result if isinstance(result, np.ndarray) else _objects(result)

    return apply


def _objects(values: Any) -> Array:
    if not isinstance(values, Sequence):
        scalar = np.empty((), dtype=object)
        scalar[()] = values
        return scalar
    vector = np.empty(len(values), dtype=object)
    vector[:] = values
    return vector


def _to_native(array: Array, dtype: torch.dtype) -> Array:
    native = _NATIVE[dtype]
    if array.dtype == object and issubclass(native, np.integer):
        bits = np.iinfo(native).bits
        wrapped = [((int(value) + (1 << bits - 1)) & ((1 << bits) - 1)) - (1 << bits - 1) for value in array.flat]
        return np.array(wrapped, dtype=np.int64).reshape(array.shape).astype(native)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(array.astype(native))


def _one_divided(a: Any, b: Any) -> Any:
    if isinstance(a, (float, torch.SymFloat)) or isinstance(b, (float, torch.SymFloat)):
        return a / b
    return a // b  # symbols are sizes, which are never below 0


_divide_symbols = pointwise(_one_divided)


def _cast_symbols(array: Array, dtype: torch.dtype) -> Array:
    def one(value: Any) -> Any:
        if dtype.is_floating_point:
            return torch.sym_float(value)  # type: ignore[no-untyped-call]
        if dtype == torch.bool:
            return value != 0
        return whole(value)

    return pointwise(one)(array)


def whole(value: Any) -> Any:
    """An integer, or the symbol of one, unchanged; a float, or the symbol of one, without its fraction."""
    return torch.sym_int(value) if isinstance(value, _SYMBOLS) else math.trunc(value)  # type: ignore[no-untyped-call]


def larger(left: Any, right: Any) -> Any:
    """The larger of two numbers or symbols."""
    return torch.sym_max(left, right)  # type: ignore[no-untyped-call]


def smaller(left: Any, right: Any) -> Any:
    """The smaller of two numbers or symbols."""
    return torch.sym_min(left, right)  # type: ignore[no-untyped-call]
