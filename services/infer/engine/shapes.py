"""Shape inference: a graph is run on tensors that have a shape and no memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from services.infer.engine.fake import constant_value, fake_of, without_memory
from services.infer.engine.graph import RuntimeGraph, TensorInfo
from services.infer.engine.host import HostTensor
from services.infer.engine.module import compute
from services.infer.engine.registry import Call, OperatorRegistry, Value
from stagemesh.errors import ConfigError, StagemeshError

MOST_BYTES = 4 << 30

_UNKNOWABLE = (DataDependentOutputException, DynamicOutputShapeException)


def infer_shapes(
    graph: RuntimeGraph,
    registry: OperatorRegistry,
    shapes: Sequence[Sequence[int]],
    most_bytes: int = MOST_BYTES,
) -> dict[str, TensorInfo]:
    """Dtype and shape of every tensor of `graph` for inputs of `shapes`, found without computing or allocating any.

    Inference ends, and what follows is left out, at a node whose output shape depends on values.

    Raises ConfigError: inputs of another number, a node that can't be computed with these shapes, a tensor, or
    a temporary of one, that would need more than `most_bytes`.
    """
    if len(shapes) != len(graph.inputs):
        raise ConfigError(f"{graph.name}: expected shapes of {len(graph.inputs)} inputs, found {len(shapes)}")
    constants = {name: constant_value(tensor) for name, tensor in graph.constants.items()}
    with without_memory() as mode:
        values: dict[str, Value] = {
            info.name: torch.empty(tuple(shape), dtype=info.dtype or torch.float32)
            for info, shape in zip(graph.inputs, shapes, strict=True)
        }
        values.update({name: fake_of(value, mode) for name, value in constants.items()})
        with _SizeLimit(most_bytes):
            try:
                _run(graph, registry, values)
            except StagemeshError as error:
                if not isinstance(error.__cause__, _UNKNOWABLE):
                    raise ConfigError(f"{graph.name}: with inputs of {[list(s) for s in shapes]}: {error}") from error
    return {name: TensorInfo(name, value.dtype, _sizes(value)) for name, value in values.items()}


def _run(graph: RuntimeGraph, registry: OperatorRegistry, values: dict[str, Value]) -> None:
    device = torch.device("cpu")
    for node in graph.nodes:
        operator = registry.find(node)
        if operator is None:
            registry.check(graph)
            continue
        inputs = tuple(values[name] if name else None for name in node.inputs)
        results = compute(Call(node, inputs, device), operator)
        values.update({name: value for name, value in zip(node.outputs, results, strict=False) if name})


def _sizes(value: Value) -> tuple[int, ...]:
    shape = value.array.shape if isinstance(value, HostTensor) else value.shape
    return tuple(int(size) for size in shape)


class _SizeLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses every torch operation whose result would be too large."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._most_bytes = most_bytes

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().nbytes() > self._most_bytes:
                found = f"{list(leaf.shape)} of {leaf.dtype}"
                raise ConfigError(f"a tensor of {found} needs more than {self._most_bytes / 2**30:.1f} GiB")
        return result
