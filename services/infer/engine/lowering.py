"""What the lowerings of TensorFlow operations share: each writes one node as nodes of the standard domain."""

from __future__ import annotations

from collections.abc import Callable

import torch

from services.infer.engine.tfjs_node import TfNode
from services.infer.engine.writer import GraphWriter
from stagemesh.errors import ConfigError

Lower = Callable[[TfNode, GraphWriter], None]

TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)


class Lowerings:
    """Functions by TensorFlow operation."""

    def __init__(self) -> None:
        self.by_op: dict[str, Lower] = {}

    def of(self, *ops: str) -> Callable[[Lower], Lower]:
        """A decorator: the function lowers these operations."""

        def keep(function: Lower) -> Lower:
            self.by_op.update(dict.fromkeys(ops, function))
            return function

        return keep


def known_numbers(node: TfNode, writer: GraphWriter, index: int, what: str) -> list[int]:
    """Input `index` as integers. Raises ConfigError where it is computed from the graph's inputs."""
    values = writer.known(node.input(index))
    if values is None:
        raise ConfigError(f"{node}: expected {what} to be constant, found '{node.input(index)}', which is computed")
    return [int(value) for value in values]


def as_int64(writer: GraphWriter, name: str) -> str:
    """The tensor as int64, the type of sizes and axes."""
    return writer.add("Cast", [name], to=7)


def channels_first(node: TfNode, writer: GraphWriter, name: str) -> str:
    """Tensor `name` of `node` as [N,C,H,W], whatever its layout is."""
    return writer.add("Transpose", [name], perm=TO_NCHW) if is_nhwc(node) else name


def to_layout(node: TfNode, writer: GraphWriter, name: str, output: str) -> str:
    """`name`, [N,C,H,W], in the layout of `node`, as tensor `output`."""
    if is_nhwc(node):
        return writer.add("Transpose", [name], output, perm=TO_NHWC)
    return writer.add("Identity", [name], output)


def is_nhwc(node: TfNode) -> bool:
    """Whether the node works on [N,H,W,C]. Raises ConfigError for a layout that is neither it nor NCHW."""
    layout = node.text("data_format", "NHWC")
    if layout not in ("NHWC", "NCHW"):
        raise ConfigError(f"{node}: attribute 'data_format': expected NHWC or NCHW, found {layout!r}")
    return layout == "NHWC"


def onnx_code(dtype: torch.dtype) -> int:
    """The ONNX element type of a dtype that TensorFlow.js knows."""
    return {torch.float32: 1, torch.int32: 6, torch.bool: 9}[dtype]
