"""The [infer] table of a model.toml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stagemesh.tables import check_range


@dataclass(frozen=True, kw_only=True)
class InferTable:
    """A network: where its weights and its module are, what image it wants, what it gives.

    `mean` and `std` are in the units of the uint8 image and in the network's channel order. `size` is the
    height and width of the image; without it any size is taken that the network can compute.
    """

    source: str
    sha256: str = ""
    arch: str
    outputs: tuple[str, ...]
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for deviation in self.std:
            check_range("std", deviation, 1e-6, 1e6)
        for side in self.size or ():
            check_range("size", side, 1, 16_384)
        names = self.outputs
        if not names or not all(names) or len(set(names)) < len(names):
            raise ValueError(f"key 'outputs': expected one or more different names, found {list(names)}")
