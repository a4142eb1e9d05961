"""The module an engine is built from: image in, normalisation, network, float32 outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from services.infer.normalise import Normaliser
from services.infer.table import InferTable


class VisionModule(nn.Module):
    """Uint8 [N,H,W,3] RGB to a tuple of float32 tensors; normalisation runs where the network runs."""

    def __init__(
        self,
        network: nn.Module,
        table: InferTable,
        device: torch.device,
        precision: torch.dtype,
        chosen: tuple[int, ...] | None,
    ) -> None:
        """`network` is in eval mode; `chosen` are the positions of its outputs to give, None for all."""
        super().__init__()
        self.training = False  # not by eval(), which exported programs refuse to hear of
        self.network = network.to(device, precision)
        self._normalise = Normaliser(table, device)
        self._precision = precision
        self._chosen = chosen

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Raises what the network raises."""
        values = self._normalise(image)
        raw = self.network(values.to(self._precision) if values.is_floating_point() else values)
        outputs = [raw] if isinstance(raw, Tensor) else list(raw)
        if self._chosen is not None:
            outputs = [outputs[index] for index in self._chosen]
        return tuple(output.to(torch.float32) for output in outputs)
