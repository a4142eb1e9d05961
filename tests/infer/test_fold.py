"""Folding batch normalisation: where it applies, and that outputs stay."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from services.infer.fold import fold_batch_norm


class Pair(nn.Module):
    """One convolution, used once or twice, and one batch normalisation, in either order."""

    def __init__(self, *, twice: bool = False, reads_conv: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.twice, self.reads_conv = twice, reads_conv
        for value in self.body[1].state_dict().values():
            if value.is_floating_point():
                nn.init.uniform_(value, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.body[0](x)
        output: torch.Tensor = self.body[1](inner)
        if self.twice:
            output = output + self.body[0](output)
        return output + inner if self.reads_conv else output


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def check(network: Pair, left: int) -> None:
    network.eval()
    image = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        expected = network(image)
        folded = fold_batch_norm(network)
        torch.testing.assert_close(folded(image), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(network(image), expected, rtol=0, atol=0)
    assert norms(folded) == left
    assert norms(network) == 1


def test_a_batch_norm_after_a_convolution_is_folded() -> None:
    check(Pair(), left=0)


def test_a_convolution_used_twice_is_left_alone() -> None:
    check(Pair(twice=True), left=1)


def test_a_convolution_that_others_read_is_left_alone() -> None:
    check(Pair(reads_conv=True), left=1)


def test_networks_run_in_other_threads_while_one_is_traced() -> None:
    entered, done = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            entered.set()
            assert done.wait(10)
            return x

    served, image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.ones(1, 3, 8, 8)
    expected = served(image)
    with ThreadPoolExecutor(2) as threads:
        tracing = [threads.submit(fold_batch_norm, Waits()) for _ in range(2)]
        assert entered.wait(10)
        found = served(image)
        done.set()
        assert [type(folded.result()) for folded in tracing] and torch.equal(found, expected)
    assert torch.equal(served(image), expected)
