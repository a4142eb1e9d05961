"""The [infer] table of a model.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from stagemesh.tables import check_range

PARSED_SUFFIXES = (".onnx", ".json")
GRAPH_SUFFIXES = (*PARSED_SUFFIXES, ".pt2")


@dataclass(frozen=True, kw_only=True)
class InferTable:
    """A network: where its weights and its module are, what image it wants, what it gives.

    `mean` and `std` are in the units of the uint8 image and in the network's channel order. `scale` "max" first
    brightens each image until its largest value is 255. `dtype` "int32" hands the values over as they are. `size` is
    the height and width of the image; without it any size is taken that the network can compute.

    A `source` ending in .onnx, .json or .pt2 holds its own graph; any other is a state dict and needs `arch`, the
    function that makes its module. `files` are further files of the source, its weights for one, with their SHA-256;
    `operators`, as in "file:ops.py:operators", is a registry of more operators for an ONNX or TensorFlow.js graph.
    `outputs` names all outputs in order, or as a table chooses some: our name = the graph's.
    `backend` is what runs the network, `precision` in what it computes; half types need a GPU.
    """

    source: str
    sha256: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    arch: str = ""
    operators: str = ""
    outputs: tuple[str, ...] | Mapping[str, str]
    backend: Literal["auto", "eager", "aotinductor", "onnxruntime"] = "auto"
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR"] = "RGB"
    dtype: Literal["float32", "int32"] = "float32"
    scale: Literal["none", "max"] = "none"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for deviation in self.std:
            check_range("std", deviation, 1e-6, 1e6)
        for side in self.size or ():
            check_range("size", side, 1, 16_384)
        if self.dtype == "int32" and (any(self.mean) or set(self.std) != {1.0} or self.scale != "none"):
            raise ValueError("key 'dtype': expected no mean, std and scale beside 'int32', found some")
        names = list(self.outputs)
        if not names or not all(names) or len(set(names)) < len(names):
            raise ValueError(f"key 'outputs': expected one or more different names, found {names}")
        if not self.holds_graph and not self.arch:
            raise ValueError("key 'arch' is missing; expected a string as in 'file:net.py:factory' beside a state dict")
        if self.arch and self.holds_graph:
            raise ValueError(f"key 'arch': expected none beside {self.source!r}, which holds a graph")
        if self.operators and not self.source.endswith(PARSED_SUFFIXES):
            raise ValueError(f"key 'operators': expected none beside {self.source!r}, which torch runs by itself")

    @property
    def holds_graph(self) -> bool:
        """Whether the source is a whole network, not only its weights."""
        return self.source.endswith(GRAPH_SUFFIXES)
