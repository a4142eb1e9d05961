"""A network as data: nodes in the order they run, the tensors between them, and the constants they use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import NoReturn

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

    `version` is the opset of `domain` that gives `op_type` its meaning. The attribute getters raise
    ConfigError where the file has another type than the operator wants.
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

    def reading(self, inputs: Sequence[str]) -> RuntimeNode:
        """The same operation on other tensors."""
        return self if tuple(inputs) == self.inputs else replace(self, inputs=tuple(inputs))

    def integer(self, name: str, default: int) -> int:
        """Attribute `name`, or `default` where it is absent."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else self._reject(name, "an integer", value)

    def real(self, name: str, default: float) -> float:
        """Attribute `name`, or `default` where it is absent."""
        value = self.attributes.get(name, default)
        return float(value) if isinstance(value, (int, float)) else self._reject(name, "a float", value)

    def text(self, name: str, default: str) -> str:
        """Attribute `name`, or `default` where it is absent."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, str) else self._reject(name, "a string", value)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Attribute `name`, None where it is absent."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple):
            self._reject(name, "integers", value)
        return tuple(item if isinstance(item, int) else self._reject(name, "integers", value) for item in value)

    def reals(self, name: str) -> tuple[float, ...] | None:
        """Attribute `name`, None where it is absent."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple):
            self._reject(name, "floats", value)
        return tuple(self._reject(name, "floats", value) if isinstance(item, str) else float(item) for item in value)

    def _reject(self, name: str, expected: str, found: object) -> NoReturn:
        raise ConfigError(f"{self}: attribute '{name}': expected {expected}, found {found!r}")


@dataclass(slots=True)
class RuntimeGraph:
    """A network: `inputs` and `outputs` in the order they are passed, `nodes` in the order they run.

    `constants` holds weights by tensor name, on the CPU; `metadata` what the file says about itself.
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    nodes: list[RuntimeNode]
    constants: dict[str, torch.Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def holding(self, nodes: list[RuntimeNode], constants: dict[str, torch.Tensor] | None = None) -> RuntimeGraph:
        """A graph of the same inputs and outputs with other nodes, and other constants where given."""
        return replace(self, nodes=nodes, constants=dict(self.constants if constants is None else constants))

    def producers(self) -> dict[str, RuntimeNode]:
        """The node that makes each tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def uses(self) -> Counter[str]:
        """How often each tensor is read: once for each input of a node, and once as an output of the graph."""
        reads = Counter(name for node in self.nodes for name in node.inputs if name)
        reads.update(output.name for output in self.outputs)
        return reads


def checked(graph: RuntimeGraph, where: str) -> RuntimeGraph:
    """`graph` with its nodes sorted so that each runs after those it reads.

    Raises ConfigError, starting with `where`: a tensor made twice, one that nothing makes, a cycle.
    """
    _check_unique(graph, where)
    known = {info.name for info in graph.inputs} | graph.constants.keys()
    made = known | graph.producers().keys()
    for node in graph.nodes:
        for name in node.inputs:
            if name and name not in made:
                raise ConfigError(f"{where}: {node} reads tensor '{name}', which nothing makes")
    for output in graph.outputs:
        if output.name not in made:
            raise ConfigError(f"{where}: output '{output.name}' is made by no node")
    if not graph.outputs:
        raise ConfigError(f"{where}: expected one or more outputs, found none")
    graph.nodes = _sorted(graph.nodes, where)
    return graph


def names_of(items: Iterable[object]) -> str:
    """The first few of `items` as one text, and how many more there are."""
    names = [str(item) for item in items]
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _check_unique(graph: RuntimeGraph, where: str) -> None:
    names = [info.name for info in graph.inputs]
    names += graph.constants
    names += [name for node in graph.nodes for name in node.outputs if name]
    twice = [repr(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"{where}: expected each tensor to be made once, found made twice: {names_of(twice)}")
    unnamed = [repr(name) for name, count in Counter(info.name for info in graph.outputs).items() if count > 1]
    if unnamed:
        raise ConfigError(f"{where}: expected different outputs, found twice: {names_of(unnamed)}")


def _sorted(nodes: Sequence[RuntimeNode], where: str) -> list[RuntimeNode]:
    makers = {name: index for index, node in enumerate(nodes) for name in node.outputs if name}
    sources = {index: [makers[name] for name in node.inputs if name in makers] for index, node in enumerate(nodes)}
    try:
        return [nodes[index] for index in TopologicalSorter(sources).static_order()]
    except CycleError as error:
        cycle = [nodes[index] for index in error.args[1]]
        raise ConfigError(f"{where}: the graph has a cycle: {names_of(cycle)}") from error
