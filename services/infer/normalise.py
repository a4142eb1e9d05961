"""Normalisation on the device: from the uint8 image of the wire to what a network was trained on."""

from __future__ import annotations

import torch

from services.infer.table import InferTable


class Normaliser:
    """Uint8 [N,H,W,3] RGB to float32 (x - mean) / std, in the channel order and layout of the network.

    With dtype "int32" the values stay as they are; with scale "max" x is 255 for the largest value of each image.
    """

    def __init__(self, table: InferTable, device: torch.device) -> None:
        self._reverses = table.channels == "BGR"
        self._channels_first = table.layout == "NCHW"
        self._keeps_integers = table.dtype == "int32"
        self._scales = table.scale == "max"
        self._mean = torch.tensor(table.mean, device=device)
        self._std = torch.tensor(table.std, device=device)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Float32 or int32 [N,3,H,W] in channels-last memory, or [N,H,W,3], of uint8 [N,H,W,3] RGB."""
        if self._reverses:
            image = image.flip(3)
        values = image.to(torch.int32) if self._keeps_integers else self._normalise(image)
        return values.permute(0, 3, 1, 2) if self._channels_first else values

    def _normalise(self, image: torch.Tensor) -> torch.Tensor:
        values = image.to(torch.float32)
        if self._scales:
            largest = image.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1)  # a black image stays black
            values = values.mul_(255 / largest)
        return values.sub_(self._mean).div_(self._std)
