"""A network as data: nodes in the order they run, the tensors between them, and the constants they use."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from stagemesh.errors import ConfigError

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | torch.Tensor
Dim = int | str | None

ONNX_DOMAIN = ""
MOST_NAMES = 8


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, element type and shape of a tensor; a dimension of no fixed size is a name or None.

    `shape` is None where even the rank is unknown, `dtype` where the file does not say.
    """

    name: str
    dtype: torch.dtype | None
    shape: tuple[Dim, ...] | None = None


@dataclass(slots=True)
class RuntimeNode:
    """One operation: `inputs` and `outputs` name tensors, "" stands for an optional one left out.

    `version` is the opset of `domain` that gives `op_type` its meaning.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    domain: str = ONNX_DOMAIN
    version: int = 18

    def __str__(self) -> str:
        return f"node '{self.name}' ({self.domain + '.' if self.domain else ''}{self.op_type})"

    def int(self, name: str, default: int) -> int:
        """Attribute `name` as an integer. Raises ConfigError where it has another type, as do its siblings."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else self._reject(name, "an integer", value)

    def float(self, name: str, default: float) -> float:
        """Attribute `name` as a float."""
        value = self.attributes.get(name, default)
        return float(value) if isinstance(value, (int, float)) else self._reject(name, "a float", value)

    def string(self, name: str, default: str) -> str:
        """Attribute `name` as text."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, str) else self._reject(name, "a string", value)

    def ints(self, name: str) -> tuple[int, ...] | None:  # type: ignore[valid-type]
        """Attribute `name` as integers, None where it is absent."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple) or not all(isinstance(item, int) for item in value):
            return self._reject(name, "integers", value)
        return value  # type: ignore[return-value]

    def floats(self, name: str) -> tuple[float, ...] | None:  # type: ignore[valid-type]
        """Attribute `name` as floats, None where it is absent."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple) or any(isinstance(item, str) for item in value):
            return self._reject(name, "floats", value)
        return value  # type: ignore[return-value]
