"""Operators by domain, type and opset, and what an operator sees of the node it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.infer.engine.graph import ONNX_DOMAIN, RuntimeGraph, RuntimeNode, names_of
from services.infer.engine.host import MOST_ELEMENTS, Array, HostTensor
from stagemesh.errors import ConfigError

Value = Tensor | HostTensor
Result = Value | Sequence[Value]
Operator = Callable[["Call"], Result]

LATEST = 1 << 30


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a node: its inputs, None where left out, and the device its outputs belong on."""

    node: RuntimeNode
    inputs: tuple[Value | None, ...]
    device: torch.device

    def has(self, index: int) -> bool:
        """Whether input `index` was given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Value:
        """Input `index` as it is. Raises ConfigError where it was left out."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise ConfigError(f"{self.node}: expected input {index}, found none")
        return value

    def tensor(self, index: int) -> Tensor:
        """Input `index` on the device."""
        value = self.value(index)
        return value.to(self.device) if isinstance(value, HostTensor) else value

    def optional(self, index: int) -> Tensor | None:
        """Input `index` on the device, None where it was left out."""
        return self.tensor(index) if self.has(index) else None

    def tensors(self) -> list[Tensor]:
        """Every input that was given, on the device."""
        return [self.tensor(index) for index in range(len(self.inputs)) if self.has(index)]

    def numbers(self, index: int) -> list[Any]:
        """Input `index` as a flat list of numbers or symbols; a tensor is copied from the device."""
        value = self.value(index)
        if isinstance(value, HostTensor):
            return value.array.ravel().tolist()
        return value.reshape(-1).tolist()

    def axes(self, index: int, name: str = "axes") -> list[int] | None:
        """Integers that older opsets have as attribute `name`, newer ones as input `index`; None if neither."""
        if self.has(index):
            return self.numbers(index)
        found = self.node.integers(name)
        return None if found is None else list(found)

    def hosts(self) -> list[HostTensor] | None:
        """All inputs, where every one of them is on the host; otherwise None."""
        given = [value for value in self.inputs if value is not None]
        hosts = [value for value in given if isinstance(value, HostTensor)]
        return hosts if len(hosts) == len(given) > 0 else None

    def shape(self, index: int) -> tuple[Any, ...]:
        """The sizes of input `index`, which may be symbols."""
        value = self.value(index)
        return value.array.shape if isinstance(value, HostTensor) else tuple(value.shape)


@dataclass(frozen=True, slots=True)
class _Entry:
    since: int
    until: int
    operator: Operator


class OperatorRegistry:
    """The operators that graphs are run with."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], list[_Entry]] = {}

    def register(
        self, *op_types: str, domain: str = ONNX_DOMAIN, since: int = 1, until: int = LATEST
    ) -> Callable[[Operator], Operator]:
        """A decorator: the function computes `op_types` of `domain` in opsets `since` to `until`, both included.

        What is registered later goes before what was registered earlier.
        """

        def keep(operator: Operator) -> Operator:
            for op_type in op_types:
                self._entries.setdefault((domain, op_type), []).insert(0, _Entry(since, until, operator))
            return operator

        return keep

    def include(self, other: OperatorRegistry) -> None:
        """Take over every operator of `other`."""
        for key, entries in other._entries.items():
            self._entries.setdefault(key, [])[:0] = entries

    def find(self, node: RuntimeNode) -> Operator | None:
        """The operator of `node`, None where there is none for its domain, type and opset."""
        for entry in self._entries.get((node.domain, node.op_type), ()):
            if entry.since <= node.version <= entry.until:
                return entry.operator
        return None

    def op_types(self, domain: str = ONNX_DOMAIN) -> list[str]:
        """The sorted types of one domain."""
        return sorted(op_type for known, op_type in self._entries if known == domain)

    def check(self, graph: RuntimeGraph) -> None:
        """Raise one ConfigError that names every operator `graph` needs and this registry lacks."""
        missing: dict[tuple[str, str, int], list[str]] = {}
        for node in graph.nodes:
            if self.find(node) is None:
                missing.setdefault((node.domain, node.op_type, node.version), []).append(node.name)
        if missing:
            texts = [
                f"{op_type} (domain '{domain or 'ai.onnx'}', opset {version}; nodes {names_of(map(repr, names))})"
                for (domain, op_type, version), names in missing.items()
            ]
            raise ConfigError(f"{graph.name}: {len(missing)} operators are missing: {'; '.join(texts)}")


def host_result(call: Call, array: Array, dtype: torch.dtype | None = None) -> Value:
    """`array` as what `call` gives, in the dtype of its first input unless `dtype` is given.

    It stays on the host unless it has grown too large to be a shape.
    """
    result = HostTensor.wrap(array, dtype or call.value(0).dtype)
    return result if array.size <= MOST_ELEMENTS else result.to(call.device)
