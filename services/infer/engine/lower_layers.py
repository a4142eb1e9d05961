"""TensorFlow's convolutions, pools, matrix products and resizes, with what is fused into them."""

from __future__ import annotations

from services.infer.engine.graph import Attribute
from services.infer.engine.lower_math import clip
from services.infer.engine.lowering import (
    TO_NCHW,
    TO_NHWC,
    Lowerings,
    as_int64,
    channels_first,
    is_nhwc,
    to_layout,
)
from services.infer.engine.tfjs_node import TfNode
from services.infer.engine.writer import GraphWriter
from stagemesh.errors import ConfigError

lowerings = Lowerings()

CONV_FILTERS = (3, 2, 0, 1)
"""From filters [H,W,in,out] to [out,in,H,W]; those of a depthwise one, [H,W,C,M], go to [C,M,H,W]."""
DEPTHWISE_FILTERS = (2, 3, 0, 1)


@lowerings.of("Conv2D", "_FusedConv2D")
def conv(node: TfNode, writer: GraphWriter) -> None:
    filters = writer.add("Transpose", [node.input(1)], perm=CONV_FILTERS)
    _convolution(node, writer, filters, 1)


@lowerings.of("DepthwiseConv2dNative", "FusedDepthwiseConv2dNative")
def depthwise_conv(node: TfNode, writer: GraphWriter) -> None:
    known = writer.constants.get(node.input(1))
    if known is None or known.ndim != 4:
        raise ConfigError(f"{node}: expected constant filters [H,W,C,M], found '{node.input(1)}'")
    height, width, channels, _ = known.shape
    by_channel = writer.add("Transpose", [node.input(1)], perm=DEPTHWISE_FILTERS)
    filters = writer.add("Reshape", [by_channel, writer.constant([-1, 1, height, width])])
    _convolution(node, writer, filters, channels)


def _convolution(node: TfNode, writer: GraphWriter, filters: str, group: int) -> None:
    steps = ["BiasAdd"] if node.op.endswith("BiasAdd") else node.texts("fused_ops")
    extra = list(node.inputs[2:])
    bias = [extra.pop(0)] if steps[:1] == ["BiasAdd"] and extra else []
    dilations = _spatial(node, "dilations")
    attributes: dict[str, Attribute] = {
        "strides": _spatial(node, "strides"),
        "dilations": dilations,
        "group": group,
        **_padding(node),
    }
    result = writer.add("Conv", [channels_first(node, writer, node.input(0)), filters, *bias], **attributes)
    for step in steps[1:] if bias else steps:
        result = _activation(node, writer, step, result, extra)
    to_layout(node, writer, result, node.name)


def _activation(node: TfNode, writer: GraphWriter, step: str, name: str, extra: list[str]) -> str:
    """One fused step after a convolution, on [N,C,H,W], or after a matrix product."""
    if step in ("Relu", "Elu", "Sigmoid", "Tanh"):
        return writer.add(step, [name])
    if step == "Relu6":
        return clip(writer, name, 0.0, 6.0)
    if step == "LeakyRelu":
        return writer.add("LeakyRelu", [name], alpha=node.real("leakyrelu_alpha", 0.2))
    if step == "Prelu" and extra:
        slope = extra.pop(0)
        known = writer.constants.get(slope)
        if known is not None and known.numel() > 1 and "Conv" in node.op:
            # [C], [1,1,C] or [H,W,C]: channels first like the values
            shape = [1] * (4 - known.ndim) + list(known.shape)
            slope = writer.add("Transpose", [writer.add("Reshape", [slope, writer.constant(shape)])], perm=TO_NCHW)
        return writer.add("PRelu", [name, slope])
    raise ConfigError(
        f"{node}: attribute 'fused_ops': expected BiasAdd, Relu, Relu6, LeakyRelu, Prelu, Elu, Sigmoid or Tanh, "
        f"found {step!r}"
    )


def _spatial(node: TfNode, name: str) -> tuple[int, ...]:
    """Height and width out of an attribute with one entry for each axis."""
    values = node.integers(name) or [1, 1, 1, 1]
    if len(values) == 2:
        return tuple(values)
    if len(values) != 4:
        raise ConfigError(f"{node}: attribute '{name}': expected 4 integers, found {values}")
    return tuple(values[1:3] if is_nhwc(node) else values[2:4])


def _padding(node: TfNode) -> dict[str, Attribute]:
    kind = node.text("padding", "VALID")
    if kind in ("SAME", "VALID"):
        return {"auto_pad": "SAME_UPPER" if kind == "SAME" else "VALID"}
    pads = node.integers("explicit_paddings")
    if kind != "EXPLICIT" or len(pads) != 8:
        raise ConfigError(f"{node}: attribute 'padding': expected SAME, VALID or EXPLICIT with 8 pads, found {kind!r}")
    top, bottom, left, right = pads[2:6] if is_nhwc(node) else pads[4:8]
    return {"pads": (top, left, bottom, right)}


@lowerings.of("Conv2DBackpropInput")
def conv_transpose(node: TfNode, writer: GraphWriter) -> None:
    """Inputs: the shape of the output, filters [H,W,out,in], values."""
    known = writer.constants.get(node.input(1))
    if known is None or known.ndim != 4:
        raise ConfigError(f"{node}: expected constant filters [H,W,out,in], found '{node.input(1)}'")
    filters = writer.add("Transpose", [node.input(1)], perm=CONV_FILTERS)
    sizes = writer.known(node.input(0))
    spatial = None if sizes is None else [int(size) for size in (sizes[1:3] if is_nhwc(node) else sizes[2:4])]
    strides, same = _spatial(node, "strides"), node.text("padding", "VALID") == "SAME"
    pads, extra = [], []
    for axis in (0, 1):
        before, after, more = _output_pads(
            int(known.shape[axis]), strides[axis], same, None if spatial is None else spatial[axis]
        )
        pads.append((before, after))
        extra.append(more)
    result = writer.add(
        "ConvTranspose",
        [channels_first(node, writer, node.input(2)), filters],
        strides=strides,
        pads=(pads[0][0], pads[1][0], pads[0][1], pads[1][1]),
        output_padding=tuple(extra),
    )
    to_layout(node, writer, result, node.name)


def _output_pads(kernel: int, stride: int, same: bool, size: int | None) -> tuple[int, int, int]:
    """Pixels to crop before and after, and to add after, for an output of `size` (None: strides times the input)."""
    if size is None:
        size, count = stride if same else max(kernel, stride), 1
    else:
        count = -(-size // stride) if same else -(-(size - kernel + 1) // stride)
    reached = (count - 1) * stride + kernel
    total = max(reached - size, 0)
    return total // 2, total - total // 2, max(size - reached, 0)


@lowerings.of("MaxPool", "AvgPool")
def pool(node: TfNode, writer: GraphWriter) -> None:
    kernel, strides = _spatial(node, "ksize"), _spatial(node, "strides")
    op_type = "MaxPool" if node.op == "MaxPool" else "AveragePool"
    values = channels_first(node, writer, node.input(0))
    result = writer.add(op_type, [values], kernel_shape=kernel, strides=strides, **_padding(node))
    to_layout(node, writer, result, node.name)


@lowerings.of("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(node: TfNode, writer: GraphWriter) -> None:
    if node.flag("is_training", False):
        raise ConfigError(f"{node}: attribute 'is_training': expected false, found true")
    values = channels_first(node, writer, node.input(0))
    epsilon = node.real("epsilon", 1e-4)
    result = writer.add("BatchNormalization", [values, *node.inputs[1:5]], epsilon=epsilon)
    to_layout(node, writer, result, node.name)


@lowerings.of("BiasAdd")
def bias_add(node: TfNode, writer: GraphWriter) -> None:
    bias = node.input(1)
    if not is_nhwc(node):
        bias = writer.add("Reshape", [bias, writer.constant([-1, 1, 1])])
    writer.add("Add", [node.input(0), bias], node.name)


@lowerings.of("MatMul", "_FusedMatMul", "BatchMatMul", "BatchMatMulV2")
def matmul(node: TfNode, writer: GraphWriter) -> None:
    left = _turned(node, writer, 0, node.flag("transpose_a") or node.flag("adj_x"))
    right = _turned(node, writer, 1, node.flag("transpose_b") or node.flag("adj_y"))
    steps, extra = node.texts("fused_ops"), list(node.inputs[2:])
    result = writer.add("MatMul", [left, right], "" if steps else node.name)
    for index, step in enumerate(steps):
        biased = step == "BiasAdd" and extra
        result = writer.add("Add", [result, extra.pop(0)]) if biased else _activation(node, writer, step, result, extra)
        if index == len(steps) - 1:
            writer.add("Identity", [result], node.name)


def _turned(node: TfNode, writer: GraphWriter, index: int, turn: bool) -> str:
    if not turn:
        return node.input(index)
    if node.op.startswith("Batch"):
        known = writer.constants.get(node.input(index))
        if known is None:
            # only the last two axes turn, and the rank is not known here
            raise ConfigError(f"{node}: expected a constant operand to transpose, found '{node.input(index)}'")
        order = (*range(known.ndim - 2), known.ndim - 1, known.ndim - 2)
        return writer.add("Transpose", [node.input(index)], perm=order)
    return writer.add("Transpose", [node.input(index)], perm=(1, 0))


@lowerings.of("ResizeBilinear", "ResizeNearestNeighbor")
def resize(node: TfNode, writer: GraphWriter) -> None:
    linear = node.op == "ResizeBilinear"
    half, corners = node.flag("half_pixel_centers"), node.flag("align_corners")
    system = "half_pixel" if half else "align_corners" if corners else "asymmetric"
    values = writer.add("Transpose", [node.input(0)], perm=TO_NCHW)
    # whole sizes, since not every engine that optimises layouts knows of sizes for some axes
    kept = writer.add("Shape", [values], start=0, end=2)
    sizes = writer.add("Concat", [kept, as_int64(writer, node.input(1))], axis=0)
    result = writer.add(
        "Resize",
        [values, "", "", sizes],
        mode="linear" if linear else "nearest",
        coordinate_transformation_mode=system,
        # TensorFlow floors, after adding the half pixel or rounding
        nearest_mode="round_prefer_ceil" if half or corners else "floor",
    )
    writer.add("Transpose", [result], node.name, perm=TO_NHWC)


@lowerings.of("DepthToSpace", "SpaceToDepth")
def move_depth(node: TfNode, writer: GraphWriter) -> None:
    values = channels_first(node, writer, node.input(0))
    result = writer.add(node.op, [values], blocksize=node.integer("block_size", 2))
    to_layout(node, writer, result, node.name)


@lowerings.of("LRN")
def local_response_norm(node: TfNode, writer: GraphWriter) -> None:
    size = 2 * node.integer("depth_radius", 5) + 1
    values = writer.add("Transpose", [node.input(0)], perm=TO_NCHW)
    result = writer.add(
        "LRN",
        [values],
        size=size,
        alpha=node.real("alpha", 1.0) * size,
        beta=node.real("beta", 0.5),
        bias=node.real("bias", 1.0),
    )
    writer.add("Transpose", [result], node.name, perm=TO_NHWC)
