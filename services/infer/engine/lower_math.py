"""TensorFlow's operations that work value by value, and its reductions."""

from __future__ import annotations

import torch

from services.infer.engine.lowering import Lower, Lowerings, as_int64, known_numbers, onnx_code
from services.infer.engine.tfjs_node import TfNode
from services.infer.engine.writer import GraphWriter

lowerings = Lowerings()

_SAME = {
    "Add": "Add AddV2 BiasAddV1",
    "Sub": "Sub",
    "Mul": "Mul Multiply",
    "Div": "RealDiv Div",
    "Max": "Maximum",
    "Min": "Minimum",
    "Pow": "Pow",
    "Sum": "AddN",
    "Equal": "Equal",
    "Greater": "Greater",
    "GreaterOrEqual": "GreaterEqual",
    "Less": "Less",
    "LessOrEqual": "LessEqual",
    "And": "LogicalAnd",
    "Or": "LogicalOr",
    "Not": "LogicalNot",
    "Where": "Select SelectV2",
    "Identity": "Identity StopGradient Snapshot PreventGradient CheckNumerics",
    "Relu": "Relu",
    "Sigmoid": "Sigmoid",
    "Tanh": "Tanh",
    "Elu": "Elu",
    "Selu": "Selu",
    "Softplus": "Softplus",
    "Softsign": "Softsign",
    "Sqrt": "Sqrt",
    "Exp": "Exp",
    "Log": "Log",
    "Abs": "Abs",
    "Neg": "Neg",
    "Floor": "Floor",
    "Ceil": "Ceil",
    "Round": "Round Rint",
    "Sign": "Sign",
    "Erf": "Erf",
    "Reciprocal": "Reciprocal Inv",
    "Sin": "Sin",
    "Cos": "Cos",
    "Tan": "Tan",
    "Asin": "Asin",
    "Acos": "Acos",
    "Atan": "Atan",
    "Sinh": "Sinh",
    "Cosh": "Cosh",
    "IsNaN": "IsNan",
    "IsInf": "IsInf",
}
_REDUCE = {"Mean": "ReduceMean", "Sum": "ReduceSum", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd"}


def _renamed(op_type: str) -> Lower:
    def lower(node: TfNode, writer: GraphWriter) -> None:
        writer.add(op_type, node.inputs, node.name)

    return lower


for _op_type, _ops in _SAME.items():
    lowerings.of(*_ops.split())(_renamed(_op_type))


def clip(writer: GraphWriter, name: str, low: float, high: float, output: str = "") -> str:
    """The tensor between two bounds."""
    bounds = [writer.constant(value, torch.float32) for value in (low, high)]
    return writer.add("Clip", [name, *bounds], output)


@lowerings.of("Relu6")
def relu6(node: TfNode, writer: GraphWriter) -> None:
    clip(writer, node.input(0), 0.0, 6.0, node.name)


@lowerings.of("LeakyRelu")
def leaky_relu(node: TfNode, writer: GraphWriter) -> None:
    writer.add("LeakyRelu", [node.input(0)], node.name, alpha=node.real("alpha", 0.2))


@lowerings.of("Prelu")
def prelu(node: TfNode, writer: GraphWriter) -> None:
    writer.add("PRelu", [node.input(0), node.input(1)], node.name)


@lowerings.of("ClipByValue")
def clip_by_value(node: TfNode, writer: GraphWriter) -> None:
    low = writer.add("Max", [node.input(0), node.input(1)])
    writer.add("Min", [low, node.input(2)], node.name)


@lowerings.of("NotEqual")
def not_equal(node: TfNode, writer: GraphWriter) -> None:
    writer.add("Not", [writer.add("Equal", [node.input(0), node.input(1)])], node.name)


@lowerings.of("Rsqrt")
def rsqrt(node: TfNode, writer: GraphWriter) -> None:
    writer.add("Reciprocal", [writer.add("Sqrt", [node.input(0)])], node.name)


@lowerings.of("Square")
def square(node: TfNode, writer: GraphWriter) -> None:
    writer.add("Mul", [node.input(0), node.input(0)], node.name)


@lowerings.of("SquaredDifference")
def squared_difference(node: TfNode, writer: GraphWriter) -> None:
    difference = writer.add("Sub", [node.input(0), node.input(1)])
    writer.add("Mul", [difference, difference], node.name)


@lowerings.of("DivNoNan")
def div_no_nan(node: TfNode, writer: GraphWriter) -> None:
    zero = writer.constant(0.0, torch.float32)
    quotient = writer.add("Div", [node.input(0), node.input(1)])
    writer.add("Where", [writer.add("Equal", [node.input(1), zero]), zero, quotient], node.name)


@lowerings.of("FloorDiv")
def floor_div(node: TfNode, writer: GraphWriter) -> None:
    left, right = node.input(0), node.input(1)
    if node.dtype("T").is_floating_point:
        writer.add("Floor", [writer.add("Div", [left, right])], node.name)
        return
    # Div drops the fraction: take the remainder, which has the sign of the divisor, off before
    exact = writer.add("Sub", [left, writer.add("Mod", [left, right])])
    writer.add("Div", [exact, right], node.name)


@lowerings.of("FloorMod", "Mod")
def floor_mod(node: TfNode, writer: GraphWriter) -> None:
    left, right = node.input(0), node.input(1)
    if not node.dtype("T").is_floating_point:
        writer.add("Mod", [left, right], node.name)
        return
    whole = writer.add("Floor", [writer.add("Div", [left, right])])
    writer.add("Sub", [left, writer.add("Mul", [whole, right])], node.name)


@lowerings.of("Cast")
def cast(node: TfNode, writer: GraphWriter) -> None:
    writer.add("Cast", [node.input(0)], node.name, to=onnx_code(node.dtype("DstT")))


@lowerings.of("Softmax", "LogSoftmax")
def softmax(node: TfNode, writer: GraphWriter) -> None:
    writer.add(node.op, [node.input(0)], node.name, axis=-1)


@lowerings.of(*_REDUCE)
def reduce(node: TfNode, writer: GraphWriter) -> None:
    keep = int(node.flag("keep_dims") or node.flag("keepDims"))
    axes = known_numbers(node, writer, 1, "the axes")
    if not axes:  # TensorFlow reduces no axis then, ONNX all of them
        writer.add("Identity", [node.input(0)], node.name)
    else:
        writer.add(_REDUCE[node.op], [node.input(0), writer.constant(axes)], node.name, keepdims=keep)


@lowerings.of("All", "Any")
def reduce_logical(node: TfNode, writer: GraphWriter) -> None:
    number = writer.add("Cast", [node.input(0)], to=onnx_code(torch.int32))
    keep = int(node.flag("keep_dims"))
    axes = writer.constant(known_numbers(node, writer, 1, "the axes"))
    extreme = writer.add("ReduceMin" if node.op == "All" else "ReduceMax", [number, axes], keepdims=keep)
    writer.add("Cast", [extreme], node.name, to=onnx_code(torch.bool))


@lowerings.of("ArgMax", "ArgMin")
def arg_extreme(node: TfNode, writer: GraphWriter) -> None:
    (axis,) = known_numbers(node, writer, 1, "the axis")
    found = writer.add(node.op, [node.input(0)], axis=axis, keepdims=0)
    writer.add("Cast", [found], node.name, to=onnx_code(torch.int32))


@lowerings.of("TopKV2")
def top_k(node: TfNode, writer: GraphWriter) -> None:
    count = writer.add("Reshape", [as_int64(writer, node.input(1)), writer.constant([1])])
    _, indices = writer.add_many("TopK", [node.input(0), count], [node.name, writer.fresh()], axis=-1)
    writer.add("Cast", [indices], f"{node.name}:1", to=onnx_code(torch.int32))


@lowerings.of("Cumsum")
def cumulative_sum(node: TfNode, writer: GraphWriter) -> None:
    flags = {"exclusive": int(node.flag("exclusive")), "reverse": int(node.flag("reverse"))}
    writer.add("CumSum", [node.input(0), as_int64(writer, node.input(1))], node.name, **flags)
