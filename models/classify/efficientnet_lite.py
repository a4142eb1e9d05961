"""EfficientNet-Lite: inverted bottlenecks with ReLU6, no squeeze-and-excitation, TensorFlow SAME padding.

The attribute names are those of the published state dict, so that its keys fit without renaming.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
CLASSES = 1000
BATCH_NORM_EPS = 1e-3


class Stage(NamedTuple):
    """One row of the network's table: `repeats` blocks, of which the first has the stride."""

    expansion: int
    channels: int
    repeats: int
    stride: int
    kernel: int


LITE0 = (
    Stage(expansion=1, channels=16, repeats=1, stride=1, kernel=3),
    Stage(expansion=6, channels=24, repeats=2, stride=2, kernel=3),
    Stage(expansion=6, channels=40, repeats=2, stride=2, kernel=5),
    Stage(expansion=6, channels=80, repeats=3, stride=2, kernel=3),
    Stage(expansion=6, channels=112, repeats=3, stride=1, kernel=5),
    Stage(expansion=6, channels=192, repeats=4, stride=2, kernel=5),
    Stage(expansion=6, channels=320, repeats=1, stride=1, kernel=3),
)


def efficientnet_lite0() -> nn.Module:
    """The smallest of the family: FP32 [N,3,H,W], normalised RGB, to logits FP32 [N,1000]."""
    return EfficientNetLite(LITE0)


class EfficientNetLite(nn.Module):
    """Stem, the blocks of `stages`, head, global average, classifier."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, kernel=3, stride=2)
        self._bn0 = nn.BatchNorm2d(STEM_CHANNELS, eps=BATCH_NORM_EPS)
        self._blocks = nn.Sequential(*_blocks(stages))
        self._conv_head = nn.Conv2d(stages[-1].channels, HEAD_CHANNELS, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(HEAD_CHANNELS, eps=BATCH_NORM_EPS)
        self._fc = nn.Linear(HEAD_CHANNELS, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits FP32 [N,1000] of normalised images FP32 [N,3,H,W]."""
        features = functional.relu6(self._bn0(self._conv_stem(image)), inplace=True)
        features = self._blocks(features)
        features = functional.relu6(self._bn1(self._conv_head(features)), inplace=True)
        return self._fc(features.mean(dim=(2, 3)))


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise, project; added to its input where the shapes agree."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        self._expands = stage.expansion != 1
        self._adds = stride == 1 and inputs == stage.channels
        if self._expands:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=BATCH_NORM_EPS)
        self._depthwise_conv = SameConv2d(inner, inner, kernel=stage.kernel, stride=stride, groups=inner)
        self._bn1 = nn.BatchNorm2d(inner, eps=BATCH_NORM_EPS)
        self._project_conv = nn.Conv2d(inner, stage.channels, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(stage.channels, eps=BATCH_NORM_EPS)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """FP32 [N,C,H,W] to [N,C',H',W']."""
        inner = features
        if self._expands:
            inner = functional.relu6(self._bn0(self._expand_conv(inner)), inplace=True)
        inner = functional.relu6(self._bn1(self._depthwise_conv(inner)), inplace=True)
        projected = self._bn2(self._project_conv(inner))
        return projected + features if self._adds else projected


class SameConv2d(nn.Conv2d):
    """Convolution of stride 1 or 2 that pads as TensorFlow does: output side = ceil(side / stride).

    Stride 1 pads both sides alike. Stride 2 depends on the side's parity: the odd pixel of padding
    comes after the image, which the `padding` of a torch convolution cannot express.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, groups: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """FP32 [N,C,H,W] to [N,C',ceil(H/stride),ceil(W/stride)]."""
        if self.stride[0] == 1:
            return super().forward(features)
        rows = self.kernel_size[0] - 2 + features.shape[2] % 2
        columns = self.kernel_size[1] - 2 + features.shape[3] % 2
        sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return super().forward(functional.pad(features, sides))


def _blocks(stages: tuple[Stage, ...]) -> list[MBConv]:
    blocks = []
    channels = STEM_CHANNELS
    for stage in stages:
        for repeat in range(stage.repeats):
            blocks.append(MBConv(channels, stage, stage.stride if repeat == 0 else 1))
            channels = stage.channels
    return blocks
