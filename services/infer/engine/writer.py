"""Writes a RuntimeGraph node by node, folding constants as it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from services.infer.engine.fold import folded_outputs
from services.infer.engine.graph import Attribute, RuntimeNode
from services.infer.engine.registry import OperatorRegistry

OPSET = 18


class GraphWriter:
    """Nodes of the standard domain, opset 18, and the constants they read, in the order they are added."""

    def __init__(self, constants: Mapping[str, Tensor], registry: OperatorRegistry) -> None:
        """Start from `constants`; `registry` computes what follows from constants alone.

        `scope`, where set, is the name that new nodes get.
        """
        self.nodes: list[RuntimeNode] = []
        self.constants = dict(constants)
        self.scope = ""
        self._registry = registry
        self._names = 0

    def add(self, op_type: str, inputs: Sequence[str], output: str = "", /, **attributes: Attribute) -> str:
        """One node of one output, which gets the name `output` or a new one; returns that name."""
        return self.add_many(op_type, inputs, [output or self.fresh()], **attributes)[0]

    def add_many(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], /, **attributes: Attribute
    ) -> list[str]:
        """One node with `outputs`; returns them."""
        node = RuntimeNode(self.scope or outputs[0], op_type, tuple(inputs), tuple(outputs), attributes, version=OPSET)
        folded = folded_outputs(node, self.constants, self._registry)
        if folded is None:
            self.nodes.append(node)
        else:
            self.constants.update(folded)
        return list(outputs)

    def constant(self, values: Any, dtype: torch.dtype = torch.int64) -> str:
        """A new constant of the given values; returns its name."""
        name = self.fresh()
        self.constants[name] = torch.tensor(values, dtype=dtype)
        return name

    def known(self, name: str) -> list[Any] | None:
        """The values of a constant as a flat list, None where `name` is computed from the inputs."""
        tensor = self.constants.get(name)
        return None if tensor is None else list(tensor.reshape(-1).tolist())

    def fresh(self) -> str:
        """A tensor name not used so far; no file's own name starts with a caret."""
        self._names += 1
        return f"^{self._names}"
