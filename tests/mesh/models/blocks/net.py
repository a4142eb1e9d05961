"""A network without weights whose answer tells what image it saw."""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

BATCH_S = 0.0


class Blocks(nn.Module):
    """[N,3,H,W] to the logits [N,16]: of each cell of a 4 x 4 grid the sum of its colours, over 64."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) and torch.jit.is_tracing():
            raise RuntimeError("a traced copy of this network would not sleep")
        time.sleep(BATCH_S)
        return adaptive_avg_pool2d(x, 4).sum(dim=1).flatten(1) / 64


def blocks() -> nn.Module:
    """Made by the infer service."""
    return Blocks()
