"""The backend that is always there: torch runs the module operation by operation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from services.infer.engine.program import EAGER


class EagerProgram:
    """A module that takes tensors by position and gives a tuple of tensors."""

    backend = EAGER

    def __init__(self, module: nn.Module) -> None:
        """`module` is in eval mode, on its device."""
        self._module = module

    def execute(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Raises what the module raises."""
        with torch.inference_mode():
            return list(self._module(*inputs))
