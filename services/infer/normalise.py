"""Normalisation on the device: from the uint8 image of the wire to what a network was trained on."""

from __future__ import annotations

import torch

from services.infer.table import InferTable


class Normaliser:
    """Uint8 [N,H,W,3] RGB to float32 (x - mean) / std, in the channel order and layout of the network."""

    def __init__(self, table: InferTable, device: torch.device) -> None:
        self._reverses = table.channels == "BGR"
        self._channels_first = table.layout == "NCHW"
        self._mean = torch.tensor(table.mean, device=device)
        self._std = torch.tensor(table.std, device=device)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Float32 [N,3,H,W] in channels-last memory, or [N,H,W,3], of uint8 [N,H,W,3] RGB."""
        if self._reverses:
            image = image.flip(3)
        values = image.to(torch.float32).sub_(self._mean).div_(self._std)
        return values.permute(0, 3, 1, 2) if self._channels_first else values
