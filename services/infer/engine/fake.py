"""Tensors with a shape and no memory: what an operator would give is found out without computing it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from services.infer.engine.host import HostTensor, host_constant
from services.infer.engine.registry import Value

_TORCH_LOG = logging.getLogger("torch._subclasses.fake_tensor")


@contextmanager
def without_memory() -> Iterator[FakeTensorMode]:
    """Inside, torch computes shapes alone; it raises for those that don't fit, and does not log them as well."""
    enabled, _TORCH_LOG.disabled = _TORCH_LOG.disabled, True
    try:
        with FakeTensorMode() as mode:
            yield mode
    finally:
        _TORCH_LOG.disabled = enabled


def constant_value(tensor: Tensor) -> Value:
    """A constant as operators see it: with its numbers, where it is small."""
    array = host_constant(tensor)
    return tensor if array is None else HostTensor(array, tensor.dtype, tensor)


def fake_of(value: Value, mode: FakeTensorMode) -> Value:
    """The same without memory; numbers on the host stay known."""
    if isinstance(value, Tensor):
        return mode.from_tensor(value)
    return HostTensor(value.array, value.dtype, None if value.tensor is None else mode.from_tensor(value.tensor))
