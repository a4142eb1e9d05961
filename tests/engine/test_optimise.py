"""The optimiser's passes, each on a graph that needs it, and on graphs it must leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from services.infer.engine.graph import RuntimeGraph
from services.infer.engine.module import GraphModule
from services.infer.engine.onnx_parser import graph_of
from services.infer.engine.optimise import optimise
from services.infer.engine.shapes import infer_shapes
from stagemesh.errors import ConfigError
from tests.engine.cases_math import real
from tests.engine.single_op import REGISTRY, Array, assert_close

IMAGE = real(2, 4, 9, 8)


def graph(nodes: list[NodeProto], constants: dict[str, Array], outputs: tuple[str, ...] = ("y",)) -> RuntimeGraph:
    proto = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * 4)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)])
    return graph_of(model, Path(), "g.onnx")


def node(op: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def run(graph: RuntimeGraph) -> list[Array]:
    with torch.inference_mode():
        return [value.numpy() for value in GraphModule(graph, REGISTRY)(torch.from_numpy(IMAGE))]


def optimised(before: RuntimeGraph) -> list[str]:
    """The types of the nodes that are left, after a check that the outputs are what they were."""
    count, wanted = len(before.nodes), run(before)
    after = optimise(before, REGISTRY)
    assert_close(run(after), wanted, 1e-5)
    assert len(before.nodes) == count
    return [node.op_type for node in after.nodes]


BN = {"s": real(6), "b": real(6), "m": real(6), "v": np.abs(real(6)) + np.float32(0.1)}
CONV = node("Conv", "x w", "c")
FILTERS = {"w": real(6, 4, 3, 3)}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("op", "filters", "attributes"),
    [
        ("Conv", real(6, 4, 3, 3), {}),
        ("Conv", real(6, 2, 3, 3), {"group": 2}),
        ("ConvTranspose", real(4, 6, 3, 3), {"strides": [2, 2]}),
        ("ConvTranspose", real(4, 3, 3, 3), {"group": 2}),
    ],
)
def test_batch_norm_folds(op: str, filters: Array, attributes: dict[str, object], bias: bool) -> None:
    nodes = [
        node(op, "x w d" if bias else "x w", "c", **attributes),
        node("BatchNormalization", "c s b m v", "n"),
        node("Relu", "n", "y"),
    ]
    assert optimised(graph(nodes, {"w": filters, "d": real(6)} | BN)) == [op, "Relu"]


@pytest.mark.parametrize(
    ("op", "inputs", "shape"),
    [("Add", "c k", (6, 1, 1)), ("Add", "k c", (1, 6, 1, 1)), ("Mul", "c k", (6, 1, 1)), ("Sub", "c k", (1,)),
     ("Div", "c k", ())],
)  # fmt: skip
def test_channel_arithmetic_folds(op: str, inputs: str, shape: tuple[int, ...]) -> None:
    constants = FILTERS | {"k": np.abs(real(*shape)) + np.float32(0.5)}
    assert optimised(graph([CONV, node(op, inputs, "y")], constants)) == ["Conv"]


@pytest.mark.parametrize(
    ("nodes", "constants", "outputs"),
    [
        ([CONV, node("BatchNormalization", "c s b m v", "n"), node("Add", "n c", "y")], BN, ("y",)),
        ([CONV, node("Mul", "c k", "y")], {"k": real(6, 1, 1)}, ("y", "c")),
        ([CONV, node("Add", "c k", "y")], {"k": real(7, 6)}, ("y",)),
        ([CONV, node("Sub", "k c", "y")], {"k": real(6, 1, 1)}, ("y",)),
        ([CONV, node("Mul", "c c", "y")], {}, ("y",)),
    ],
)
def test_what_others_read_stays(nodes: list[NodeProto], constants: dict[str, Array], outputs: tuple[str, ...]) -> None:
    found = optimised(graph(nodes, FILTERS | constants, outputs))
    assert found == [node.op_type for node in nodes]


def test_constants_are_computed_once() -> None:
    nodes = [
        node("Cast", "i", "f", to=TensorProto.FLOAT),
        node("Mul", "f k", "w"),
        node("Identity", "x", "z"),
        node("Conv", "z w", "y"),
    ]
    integers = np.arange(216).reshape(6, 4, 3, 3).astype(np.int8)
    assert optimised(graph(nodes, {"i": integers, "k": np.float32(0.01)})) == ["Conv"]


def test_pads_join_the_convolution() -> None:
    pads = {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])}
    nodes = [node("Pad", "x p", "q"), node("Conv", "q w", "y", pads=[1, 0, 0, 1], strides=[2, 2])]
    assert optimised(graph(nodes, FILTERS | pads)) == ["Conv"]
    filled = [node("Pad", "x p one", "q"), nodes[1]]
    assert optimised(graph(filled, FILTERS | pads | {"one": np.float32(1)})) == ["Pad", "Conv"]


TO_NHWC, TO_NCHW = {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]}


@pytest.mark.parametrize(
    ("between", "constants"),
    [
        ([node("Relu", "t", "u")], {}),
        ([node("Add", "t k", "u")], {"k": real(4)}),
        ([node("Mul", "k t", "u")], {"k": real(8, 4)}),
        ([node("PRelu", "t k", "u")], {"k": real(1, 1, 4)}),
        ([node("Clip", "t lo hi", "u")], {"lo": np.float32(0), "hi": np.float32(1)}),
        ([node("Concat", "t t", "u", axis=3)], {}),
        ([node("Concat", "t t", "u", axis=-2)], {}),
        ([node("Softmax", "t", "u", axis=-1)], {}),
        ([node("Pad", "t p", "u")], {"p": np.array([0, 1, 2, 0, 0, 3, 4, 0])}),
        ([node("Relu", "t", "a"), node("Abs", "t", "b"), node("Add", "a b", "u")], {}),
    ],
)
def test_transposes_cancel_across(between: list[NodeProto], constants: dict[str, Array]) -> None:
    nodes = [node("Transpose", "x", "t", **TO_NHWC), *between, node("Transpose", "u", "y", **TO_NCHW)]
    found = optimised(graph(nodes, constants))
    assert sorted(found) in ([*sorted(n.op_type for n in between)], sorted([*(n.op_type for n in between), "Identity"]))


def test_transposes_that_are_needed_stay() -> None:
    reshaped = [node("Transpose", "x", "t", **TO_NHWC), node("Reshape", "t s", "y")]
    assert optimised(graph(reshaped, {"s": np.array([2, -1])})) == ["Transpose", "Reshape"]
    read_twice = [
        node("Transpose", "x", "t", **TO_NHWC),
        node("Relu", "t", "u"),
        node("Transpose", "u", "y", **TO_NCHW),
    ]
    assert "Transpose" in optimised(graph(read_twice, {}, ("y", "t")))


def test_split_follows_its_axis() -> None:
    nodes = [
        node("Transpose", "x", "t", **TO_NHWC),
        helper.make_node("Split", ["t", "s"], ["a", "b"], axis=3),
        node("Transpose", "a", "y", **TO_NCHW),
        node("Transpose", "b", "z", **TO_NCHW),
    ]
    assert "Transpose" not in optimised(graph(nodes, {"s": np.array([1, 3])}, ("y", "z")))


def test_shapes_need_no_memory() -> None:
    wide = graph([CONV, node("Relu", "c", "y")], FILTERS)
    found = infer_shapes(wide, REGISTRY, [(100, 4, 1002, 1002)], most_bytes=4 << 30)
    assert found["y"].shape == (100, 6, 1000, 1000)
    with pytest.raises(ConfigError, match=r"node 'c' \(Conv\).*more than 1\.0 GiB|more than 1\.0 GiB"):
        infer_shapes(wide, REGISTRY, [(100, 4, 1002, 1002)], most_bytes=1 << 30)
    with pytest.raises(ConfigError, match="expected shapes of 1 inputs, found 2"):
        infer_shapes(wide, REGISTRY, [(1, 4, 9, 9), (1,)])
