"""A network that does what the pixels say: sleep, raise, and answer the number it was given."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import nn

LOG = Path(__file__).with_name("computed.log")
MAGIC = 77
POISON = 13


class Puppet(nn.Module):
    """[N,3,2,2] to [N,4]. Pixel (0,0) holds the number, tens of ms to sleep, POISON; pixel (1,1) is MAGIC."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("a traced copy of this network would neither sleep nor raise")
        first, last = x[:, :, 0, 0], x[:, :, 1, 1]
        if bool((last == MAGIC).all()):
            self.act(first.int().tolist())
        return torch.cat([first, torch.zeros(len(x), 1)], dim=1)

    def act(self, samples: list[list[int]]) -> None:
        """Write down the numbers of the batch, sleep as long as the longest, raise for a poisoned one."""
        with LOG.open("a") as log:
            log.write("infer " + " ".join(str(number) for number, _, _ in samples) + "\n")
        time.sleep(max(tens for _, tens, _ in samples) / 100)
        if any(poison == POISON for _, _, poison in samples):
            raise ValueError("a poisoned sample")


def puppet() -> nn.Module:
    """Made by the infer service."""
    return Puppet()
