"""TensorFlow's operations: what they are documented to compute, written out in numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.infer.engine.graph import TensorInfo
from services.infer.engine.graph_to_onnx import graph_to_onnx
from services.infer.engine.module import GraphModule
from services.infer.engine.parsers import parse_model
from tests.engine.cases_math import real, whole
from tests.engine.single_op import REGISTRY, Array, assert_close, session
from tests.engine.tfjs_models import node, placeholder, write_model

IMAGE = real(2, 7, 6, 4)
FILTERS = real(3, 3, 4, 5)
DEPTHWISE = real(3, 3, 4, 2)


@dataclass(frozen=True)
class Op:
    """An operation on the input `x`, on constants, and what it should give."""

    op: str
    x: Array
    wanted: Callable[..., Array | tuple[Array, ...]]
    constants: Sequence[Array] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    x_at: int = 0
    outputs: int = 1

    def __str__(self) -> str:
        return f"{self.op}-{'-'.join(f'{k}={v}' for k, v in self.attributes.items())}"[:90]


def padded(x: Array, kernel: Sequence[int], strides: Sequence[int], fill: float = 0.0) -> Array:
    """SAME padding: as much as the windows need, the odd pixel after."""
    pads = [(0, 0)]
    for size, k, stride in zip(x.shape[1:3], kernel, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + k - size, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, [*pads, (0, 0)], constant_values=fill)


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilation: int = 1) -> Array:
    """[N,H,W,C] as [N,h,w,kh,kw,C]."""
    spans = [(k - 1) * dilation + 1 for k in kernel]
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))[:, :: strides[0], :: strides[1]]
    return np.moveaxis(view[..., ::dilation, ::dilation], 3, -1)


def conv(x: Array, f: Array, strides: Sequence[int] = (1, 1), dilation: int = 1) -> Array:
    return np.einsum("nhwabc,abco->nhwo", windows(x, f.shape[:2], strides, dilation), f)


def depthwise(x: Array, f: Array, strides: Sequence[int] = (1, 1)) -> Array:
    out = np.einsum("nhwabc,abcm->nhwcm", windows(x, f.shape[:2], strides), f)
    return out.reshape(*out.shape[:3], -1)


def deconv(x: Array, f: Array, stride: int, size: int) -> Array:
    """The gradient of a SAME convolution with filters [H,W,out,in], square images."""
    k, count = f.shape[0], x.shape[1]
    whole_image = np.zeros((x.shape[0], (count - 1) * stride + k, (count - 1) * stride + k, f.shape[2]), np.float32)
    for i in range(count):
        for j in range(count):
            patch = np.einsum("nc,aboc->nabo", x[:, i, j], f)
            whole_image[:, i * stride : i * stride + k, j * stride : j * stride + k] += patch
    cut = max(whole_image.shape[1] - size, 0) // 2
    return whole_image[:, cut : cut + size, cut : cut + size]


def bilinear(x: Array, size: tuple[int, int], half: bool = False, corners: bool = False) -> Array:
    for axis, target in zip((1, 2), size, strict=True):
        source = x.shape[axis]
        at = np.arange(target, dtype=np.float64)
        if half:
            at = (at + 0.5) * source / target - 0.5
        else:
            at = at * ((source - 1) / (target - 1) if corners else source / target)
        at = at.clip(0, source - 1)
        low = np.floor(at).astype(int)
        weight = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        high = np.minimum(low + 1, source - 1)
        x = x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight
    return x.astype(np.float32)


def relu6(x: Array) -> Array:
    return x.clip(0, 6)


def leaky(x: Array, slope: Any = 0.2) -> Array:
    return np.where(x < 0, x * slope, x)


BIAS, SLOPE = real(5), real(5)
SAME = {"padding": "SAME", "data_format": "NHWC"}
VALID = {"padding": "VALID", "data_format": "NHWC"}
STRIDE2 = {"strides": [1, 2, 2, 1]}
CONVOLUTIONS = [
    Op("Conv2D", IMAGE, conv, [FILTERS], VALID | {"strides": [1, 1, 1, 1]}),
    Op("Conv2D", IMAGE, lambda x, f: conv(padded(x, (3, 3), (2, 2)), f, (2, 2)), [FILTERS], SAME | STRIDE2),
    Op("Conv2D", IMAGE, lambda x, f: conv(x, f, dilation=2), [FILTERS], VALID | {"dilations": [1, 2, 2, 1]}),
    Op("Conv2D", IMAGE, lambda x, f: conv(np.pad(x, ((0, 0), (1, 0), (2, 1), (0, 0))), f), [FILTERS],
       {"padding": "EXPLICIT", "explicit_paddings": [0, 0, 1, 0, 2, 1, 0, 0], "strides": [1, 1, 1, 1]}),
    Op("Conv2D", real(1, 4, 7, 6), lambda x, f: conv(x.transpose(0, 2, 3, 1), f).transpose(0, 3, 1, 2), [FILTERS],
       {"padding": "VALID", "data_format": "NCHW", "strides": [1, 1, 1, 1]}),
    Op("_FusedConv2D", IMAGE, lambda x, f, b: relu6(conv(padded(x, (3, 3), (1, 1)), f) + b), [FILTERS, BIAS],
       SAME | {"fused_ops": ["BiasAdd", "Relu6"]}),
    Op("_FusedConv2D", IMAGE, lambda x, f, b: conv(x, f) + b, [FILTERS, BIAS], VALID | {"fused_ops": ["BiasAdd"]}),
    Op("_FusedConv2D", IMAGE, lambda x, f, b: leaky(conv(x, f) + b, 0.3), [FILTERS, BIAS],
       VALID | {"fused_ops": ["BiasAdd", "LeakyRelu"], "leakyrelu_alpha": 0.3}),
    Op("_FusedConv2D", IMAGE, lambda x, f, b, a: leaky(conv(x, f) + b, a), [FILTERS, BIAS, SLOPE],
       VALID | {"fused_ops": ["BiasAdd", "Prelu"]}),
    Op("_FusedConv2D", IMAGE, lambda x, f, a: leaky(conv(x, f), a), [FILTERS, SLOPE.reshape(1, 1, 5)],
       VALID | {"fused_ops": ["Prelu"]}),
    Op("DepthwiseConv2dNative", IMAGE, lambda x, f: depthwise(padded(x, (3, 3), (2, 2)), f, (2, 2)), [DEPTHWISE],
       SAME | STRIDE2),
    Op("FusedDepthwiseConv2dNative", IMAGE, lambda x, f, b: np.maximum(depthwise(x, f) + b, 0), [DEPTHWISE, real(8)],
       VALID | {"fused_ops": ["BiasAdd", "Relu"]}),
    *(Op("Conv2DBackpropInput", real(1, 4, 4, 5),
         lambda shape, f, x: deconv(x, f, 2, int(shape[1])), [np.array([1, size, size, 4], np.int32), real(k, k, 4, 5)],
         SAME | STRIDE2, x_at=2) for k, size in ((3, 8), (3, 7), (4, 8), (2, 8))),
]  # fmt: skip
POOLS = [
    Op("MaxPool", IMAGE, lambda x: windows(padded(x, (3, 3), (2, 2), -np.inf), (3, 3), (2, 2)).max((3, 4)), [],
       SAME | STRIDE2 | {"ksize": [1, 3, 3, 1]}),
    Op("MaxPool", IMAGE, lambda x: windows(x, (2, 2), (2, 2)).max((3, 4)), [],
       VALID | STRIDE2 | {"ksize": [1, 2, 2, 1]}),
    Op("AvgPool", IMAGE, lambda x: np.nanmean(windows(padded(x, (3, 3), (2, 2), np.nan), (3, 3), (2, 2)), (3, 4)), [],
       SAME | STRIDE2 | {"ksize": [1, 3, 3, 1]}),
]  # fmt: skip
SIZE = np.array([9, 11], np.int32)
RESIZES = [
    Op("ResizeBilinear", IMAGE, (lambda h, c: lambda x, s: bilinear(x, (9, 11), h, c))(half, corners), [SIZE],
       {"half_pixel_centers": half, "align_corners": corners})
    for half, corners in ((False, False), (True, False), (False, True))
]  # fmt: skip
X, Y = real(2, 3, 4), np.abs(real(3, 4)) + np.float32(0.1)
N, M = whole(2, 3, dtype=np.int32), np.array([-3, 2, 4], np.int32)
VALUES = [
    *(Op(name, X, function, [Y]) for name, function in {
        "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply, "RealDiv": np.divide,
        "Maximum": np.maximum, "Minimum": np.minimum, "SquaredDifference": lambda a, b: (a - b) ** 2,
        "Greater": np.greater, "NotEqual": np.not_equal, "FloorDiv": np.floor_divide, "FloorMod": np.mod,
        "AddN": np.add, "DivNoNan": np.divide,
    }.items()),
    Op("FloorDiv", N, np.floor_divide, [M], {"T": "DT_INT32"}),
    Op("FloorMod", N, np.mod, [M], {"T": "DT_INT32"}),
    *(Op(name, X, function) for name, function in {
        "Relu": lambda x: np.maximum(x, 0), "Relu6": relu6, "LeakyRelu": leaky, "Square": np.square,
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
        "Tanh": np.tanh, "Exp": np.exp, "ZerosLike": np.zeros_like, "OnesLike": np.ones_like,
    }.items()),
    Op("LeakyRelu", X, lambda x: leaky(x, 0.1), [], {"alpha": 0.1}),
    Op("Prelu", X, leaky, [real(4)]),
    Op("Sqrt", Y, np.sqrt), Op("Rsqrt", Y, lambda x: 1 / np.sqrt(x)),
    Op("ClipByValue", X, np.clip, [np.float32(-0.5), np.float32(0.5)]),
    Op("Cast", X * 9, lambda x: x.astype(np.int32), [], {"SrcT": "DT_FLOAT", "DstT": "DT_INT32"}),
    Op("Cast", N, lambda x: x.astype(np.float32), [], {"SrcT": "DT_INT64", "DstT": "DT_FLOAT"}),
    *(Op(name, X, (lambda f: lambda x, axes: f(x, axis=(0, 2), keepdims=True))(function), [np.array([0, 2], np.int32)],
         {"keep_dims": True})
      for name, function in {"Mean": np.mean, "Sum": np.sum, "Max": np.max, "Min": np.min, "Prod": np.prod}.items()),
    Op("Mean", X, lambda x, axes: x.mean(1), [np.array(1, np.int32)]),
    Op("ArgMax", X, lambda x, axis: x.argmax(1).astype(np.int32), [np.array(1, np.int32)]),
    Op("TopKV2", X, lambda x, k: (-np.sort(-x, -1)[..., :2], np.argsort(-x, -1)[..., :2].astype(np.int32)),
       [np.array(2, np.int32)], outputs=2),
    Op("MatMul", Y, lambda x, w: x @ w, [real(4, 5)]),
    Op("MatMul", Y, lambda x, w: x.T @ w.T, [real(5, 3)], {"transpose_a": True, "transpose_b": True}),
    Op("_FusedMatMul", Y, lambda x, w, b: np.maximum(x @ w + b, 0), [real(4, 5), real(5)],
       {"fused_ops": ["BiasAdd", "Relu"]}),
    Op("BatchMatMulV2", X, lambda x, w: x @ w.transpose(0, 2, 1), [real(2, 5, 4)], {"adj_y": True}),
    Op("FusedBatchNormV3", IMAGE, lambda x, s, b, m, v: (x - m) / np.sqrt(v + 1e-3) * s + b,
       [real(4), real(4), real(4), np.abs(real(4))], {"epsilon": 1e-3, "is_training": False}),
    Op("BiasAdd", IMAGE, np.add, [real(4)]),
]  # fmt: skip
I32 = np.int32
ARRAYS = [
    Op("Reshape", X, lambda x, s: x.reshape(4, 6), [np.array([4, -1], I32)]),
    Op("Transpose", X, lambda x, p: x.transpose(2, 0, 1), [np.array([2, 0, 1], I32)]),
    Op("ConcatV2", X, lambda x, y, a: np.concatenate([x, y], -1), [real(2, 3, 2), np.array(-1, I32)]),
    Op("ExpandDims", X, lambda x, a: x[:, None], [np.array(1, I32)]),
    Op("Squeeze", real(1, 3, 1), lambda x: x[0], [], {"squeeze_dims": [0]}),
    Op("Pack", X, lambda x, y: np.stack([x, y], 1), [X + 1], {"axis": 1, "N": 2}),
    Op("Unpack", X, lambda x: tuple(x[:, i] for i in range(3)), [], {"axis": 1, "num": 3}, outputs=3),
    Op("Split", real(4, 6), lambda a, x: tuple(np.split(x, 3, 1)), [np.array(1, I32)], {"num_split": 3}, 1, 3),
    Op("SplitV", real(4, 6), lambda x, s, a: (x[:, :1], x[:, 1:4], x[:, 4:]),
       [np.array([1, 3, 2], I32), np.array(1, I32)], outputs=3),
    Op("SplitV", real(4, 6), lambda x, s, a: (x[:, :1], x[:, 1:4], x[:, 4:]),
       [np.array([1, -1, 2], I32), np.array(-1, I32)], outputs=3),
    Op("GatherV2", X, lambda x, i, a: x[:, [2, 0]], [np.array([2, 0], I32), np.array(1, I32)]),
    Op("GatherNd", X, lambda x, i: x[[0, 1], [1, 2]], [np.array([[0, 1], [1, 2]], I32)]),
    Op("Pad", X, lambda x, p: np.pad(x, ((0, 0), (1, 2), (3, 0))), [np.array([[0, 0], [1, 2], [3, 0]], I32)]),
    Op("PadV2", X, lambda x, p, v: np.pad(x, ((0, 0), (1, 2), (3, 0)), constant_values=5),
       [np.array([[0, 0], [1, 2], [3, 0]], I32), np.float32(5)]),
    Op("MirrorPad", X, lambda x, p: np.pad(x, ((0, 0), (1, 2), (3, 0)), mode="reflect"),
       [np.array([[0, 0], [1, 2], [3, 0]], I32)], {"mode": "REFLECT"}),
    Op("Slice", X, lambda x, b, s: x[:, 1:3, 1:], [np.array([0, 1, 1], I32), np.array([-1, 2, -1], I32)]),
    Op("StridedSlice", X, lambda x, b, e, s: x[0, 1:, ::2],
       [np.array([0, 1, 0], I32), np.array([1, 0, 4], I32), np.array([1, 1, 2], I32)],
       {"shrink_axis_mask": 1, "end_mask": 2}),
    Op("StridedSlice", X, lambda x, b, e, s: x[:, None, ::-1],
       [np.array([0, 0, 0], I32), np.array([0, 0, 0], I32), np.array([1, 1, -1], I32)],
       {"begin_mask": 5, "end_mask": 5, "new_axis_mask": 2}),
    Op("Shape", X, lambda x: np.array([2, 3, 4], I32)),
    Op("Fill", np.array(2.5, np.float32), lambda d, x: np.full((2, 3), x), [np.array([2, 3], I32)], x_at=1),
    Op("Tile", X, lambda x, m: np.tile(x, (1, 2, 1)), [np.array([1, 2, 1], I32)]),
    Op("OneHot", np.array([1, 0, 3], I32), lambda x, d, on, off: np.eye(4, dtype=np.float32)[x] * 2 + 1,
       [np.array(4, I32), np.float32(3), np.float32(1)]),
    Op("DepthToSpace", real(1, 2, 3, 8), lambda x: x.reshape(1, 2, 3, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(
        1, 4, 6, 2), [], {"block_size": 2}),
    Op("SelectV2", X > 0, np.where, [X, X * 2]),
]  # fmt: skip


@pytest.mark.parametrize("op", [*CONVOLUTIONS, *POOLS, *RESIZES, *VALUES, *ARRAYS], ids=str)
def test_computes_what_tensorflow_documents(op: Op, tmp_path: Path) -> None:
    weights = {f"c{index}": np.asarray(value) for index, value in enumerate(op.constants)}
    names = [*weights]
    names.insert(op.x_at, "x")
    outputs = ["y", *(f"y:{index}" for index in range(1, op.outputs))]
    graph = parse_model(
        write_model(tmp_path, [placeholder("x", op.x), node("y", op.op, names, **op.attributes)], weights, outputs)
    )
    wanted = op.wanted(*(op.x if name == "x" else weights[name] for name in names))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    with torch.inference_mode():
        found = [value.numpy() for value in GraphModule(graph, REGISTRY)(torch.from_numpy(op.x))]
    kinds = [value.astype(np.float32) if value.dtype == np.float64 else value for value in wanted]
    assert_close(found, kinds)
    # the file leaves the types of the outputs open; ONNX wants them
    typed = (TensorInfo(i.name, torch.from_numpy(v).dtype) for i, v in zip(graph.outputs, found, strict=True))
    graph.outputs = tuple(typed)
    assert_close(list(session(graph_to_onnx(graph)).run(None, {"x": op.x})), kinds)
