"""A RuntimeGraph as a torch module: runs eagerly, and can be exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from services.infer.engine.graph import RuntimeGraph, RuntimeNode
from services.infer.engine.host import Array, HostTensor, host_constant
from services.infer.engine.registry import Call, Operator, OperatorRegistry, Result, Value
from stagemesh.errors import StageFailed, StagemeshError


@dataclass(frozen=True, slots=True)
class _Step:
    node: RuntimeNode
    operator: Operator
    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]
    freed: tuple[int, ...]


class GraphModule(nn.Module):
    """Takes the graph's inputs as positional tensors, in order, and returns its outputs as a tuple, in order.

    Constants are buffers and move with the module; a tensor is let go after its last use. Sizes the graph
    computes stay Python numbers, so torch.export keeps a dynamic batch dynamic.
    """

    def __init__(self, graph: RuntimeGraph, registry: OperatorRegistry) -> None:
        """Look every operator up. Raises one ConfigError naming all that `registry` lacks."""
        super().__init__()
        registry.check(graph)
        self.graph = graph
        names = [info.name for info in graph.inputs] + list(graph.constants)
        names += [name for node in graph.nodes for name in node.outputs if name]
        slots = {name: index for index, name in enumerate(names)}
        self._steps = _steps(graph, registry, slots)
        self._outputs = tuple(slots[info.name] for info in graph.outputs)
        self._constants: list[tuple[int, str, torch.dtype, Array | None]] = []
        for index, (name, tensor) in enumerate(graph.constants.items()):
            self.register_buffer(f"constant_{index}", _for_compute(tensor))
            self._constants.append((slots[name], f"constant_{index}", tensor.dtype, host_constant(tensor)))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the graph. Raises StageFailed naming the node that could not be computed."""
        if len(inputs) != len(self.graph.inputs):
            raise StageFailed(f"{self.graph.name}: expected {len(self.graph.inputs)} inputs, got {len(inputs)}")
        values: dict[int, Value] = dict(enumerate(inputs))
        device = self._device(inputs)
        for slot, name, dtype, host in self._constants:
            tensor: Tensor = getattr(self, name)
            values[slot] = tensor if host is None else HostTensor(host, dtype, tensor)
        for step in self._steps:
            _run(step, values, device)
        return tuple(_on_device(values[slot], device) for slot in self._outputs)

    def _device(self, inputs: Sequence[Tensor]) -> torch.device:
        return inputs[0].device if inputs else next((buffer.device for buffer in self.buffers()), torch.device("cpu"))


def compute(call: Call, operator: Operator) -> Sequence[Value]:
    """The outputs of one node. Raises StageFailed naming it where its operator fails."""
    try:
        result: Result = operator(call)
    except StagemeshError:
        raise
    except Exception as error:  # a plug-in's operator, or torch given what the file says, may raise anything
        inputs = ", ".join(_describe(value) for value in call.inputs)
        text = str(error).strip().partition("\n")[0]
        raise StageFailed(f"{call.node} with inputs {inputs}: {type(error).__name__}: {text}") from error
    return (result,) if isinstance(result, (Tensor, HostTensor)) else result


def _run(step: _Step, values: dict[int, Value], device: torch.device) -> None:
    inputs = tuple(None if slot is None else values[slot] for slot in step.inputs)
    results = compute(Call(step.node, inputs, device), step.operator)
    if len(results) < len(step.outputs):
        raise StageFailed(f"{step.node}: expected {len(step.outputs)} outputs, got {len(results)}")
    for slot, value in zip(step.outputs, results, strict=False):
        if slot is not None:
            values[slot] = value
    for slot in step.freed:
        values.pop(slot, None)


def _steps(graph: RuntimeGraph, registry: OperatorRegistry, slots: dict[str, int]) -> list[_Step]:
    last = {name: index for index, node in enumerate(graph.nodes) for name in (*node.outputs, *node.inputs) if name}
    for info in graph.outputs:
        last.pop(info.name, None)
    freed: dict[int, list[int]] = {}
    for name, index in last.items():
        freed.setdefault(index, []).append(slots[name])
    steps = []
    for index, node in enumerate(graph.nodes):
        operator = registry.find(node)
        assert operator is not None  # the registry was checked against the graph
        inputs = tuple(slots[name] if name else None for name in node.inputs)
        outputs = tuple(slots[name] if name else None for name in node.outputs)
        steps.append(_Step(node, operator, inputs, outputs, tuple(freed.get(index, ()))))
    return steps


def _for_compute(tensor: Tensor) -> Tensor:
    # convolutions read their filters fastest with channels last
    is_filter = tensor.ndim == 4 and tensor.is_floating_point()
    return tensor.contiguous(memory_format=torch.channels_last) if is_filter else tensor


def _on_device(value: Value, device: torch.device) -> Tensor:
    return value.to(device) if isinstance(value, HostTensor) else value


def _describe(value: Value | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, HostTensor):
        return f"{value.dtype} {list(value.array.shape)}"
    return f"{value.dtype} {list(value.shape)}"
