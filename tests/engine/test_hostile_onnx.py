"""ONNX files that are broken or mean harm: one clear error, no hang, no memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from services.infer.engine.module import GraphModule
from services.infer.engine.operators import standard_registry
from services.infer.engine.optimise import optimise
from services.infer.engine.parsers import parse_model
from services.infer.engine.shapes import infer_shapes
from stagemesh.errors import ConfigError

REGISTRY = standard_registry()
MOST_SECONDS = 10.0
MOST_GROWTH_MIB = 300


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - began < MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH_MIB << 10


def model(*nodes: NodeProto, constants: dict[str, np.ndarray] | None = None, opset: int = 17) -> ModelProto:
    """A model from `x` float32 [1,3,8,8] to the last node's output."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op: str, inputs: list[str], output: str = "y", **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs, [output], name=f"n_{output}", **attributes)


RELU = node("Relu", ["x"])


def refused(folder: Path, content: ModelProto | bytes, *wanted: str) -> None:
    path = folder / "m.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(ConfigError) as caught:
        graph = parse_model(path)
        GraphModule(graph, REGISTRY)
        infer_shapes(optimise(graph, REGISTRY), REGISTRY, [(1, 3, 8, 8)])
    for text in ("m.onnx", *wanted):
        assert text in str(caught.value)


def test_not_onnx(tmp_path: Path) -> None:
    refused(tmp_path, b"\x80\x04\x95pickle", "expected an ONNX file")
    refused(tmp_path, b"", "expected an ONNX file")
    refused(tmp_path, b"{}", "expected an ONNX file")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, share: float) -> None:
    big = model(node("Conv", ["x", "w"]), constants={"w": np.ones((4, 3, 3, 3), np.float32)}).SerializeToString()
    refused(tmp_path, big[: int(len(big) * share)], "expected")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.onnx"):
        parse_model(tmp_path / "none.onnx")
    with pytest.raises(ConfigError, match=r"expected a model file ending in \.onnx or \.json"):
        parse_model(tmp_path / "net.pkl")


def test_cycle(tmp_path: Path) -> None:
    refused(tmp_path, model(node("Add", ["x", "b"], "a"), node("Relu", ["a"], "b"), node("Relu", ["b"])),
            "cycle", "n_a", "n_b")  # fmt: skip
    refused(tmp_path, model(node("Add", ["x", "y"])), "cycle", "n_y")


def test_dangling(tmp_path: Path) -> None:
    refused(tmp_path, model(node("Add", ["x", "ghost"])), "'ghost'", "n_y", "nothing makes")
    headless = model(RELU)
    headless.graph.output[0].name = "ghost"
    refused(tmp_path, headless, "'ghost'")
    del headless.graph.output[:]
    refused(tmp_path, headless, "one or more outputs")


def test_made_twice(tmp_path: Path) -> None:
    refused(tmp_path, model(RELU, node("Abs", ["x"])), "made twice", "'y'")
    refused(tmp_path, model(RELU, constants={"y": np.ones(1, np.float32)}), "made twice", "'y'")
    twice = model(node("Add", ["x", "w"]), constants={"w": np.ones(1, np.float32)})
    twice.graph.initializer.append(twice.graph.initializer[0])
    refused(tmp_path, twice, "made twice", "'w'")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda t: t.ClearField("raw_data"), "found 0"),
        (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "expected 16 bytes"),
        (lambda t: t.dims.__setitem__(0, 1 << 50), f"expected {1 << 52} bytes"),
        (lambda t: t.dims.__setitem__(0, -4), "dimensions of 0 or more"),
        (lambda t: setattr(t, "data_type", TensorProto.STRING), "element type"),
        (lambda t: setattr(t, "data_type", 999), "999"),
    ],
)
def test_broken_weights(tmp_path: Path, change: Callable[[TensorProto], None], wanted: str) -> None:
    broken = model(node("Add", ["x", "w"]), constants={"w": np.ones(4, np.float32)})
    change(broken.graph.initializer[0])
    refused(tmp_path, broken, "'w'", wanted)


def external(location: str, offset: int = 0, length: int = 16) -> ModelProto:
    result = model(node("Add", ["x", "w"]), constants={"w": np.ones(4, np.float32)})
    weights = result.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        weights.external_data.add(key=key, value=str(value))
    return result


def test_external_data(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    refused(folder, external("none.bin"), "'w'", "none.bin")
    refused(folder, external("../secret.bin"), "'w'", "inside")
    refused(folder, external("/etc/passwd"), "'w'", "inside")
    refused(folder, external("link.bin"), "'w'", "inside")
    refused(folder, external("w.bin", offset=20), "'w'", "offset 20")
    refused(folder, external("w.bin", offset=-4), "'w'", "offset -4")
    refused(folder, external("w.bin", length=8), "'w'", "expected 16 bytes")
    onnx.save(external("w.bin", offset=16), folder / "good.onnx")
    assert parse_model(folder / "good.onnx").constants["w"].tolist() == [4, 5, 6, 7]


def test_one_error_names_every_missing_operator(tmp_path: Path) -> None:
    custom = helper.make_node("Fancy", ["a"], ["b"], name="my_fancy", domain="com.example")
    broken = model(node("Nonsense", ["x"], "a"), custom, node("Loop", ["b"]))
    broken.opset_import.append(helper.make_opsetid("com.example", 3))
    refused(
        tmp_path, broken, "3 operators are missing", "Nonsense (domain 'ai.onnx', opset 17; nodes 'n_a')",
        "Fancy (domain 'com.example', opset 3; nodes 'my_fancy')", "Loop",
    )  # fmt: skip


@pytest.mark.parametrize("opset", [1, 8, 22, 99])
def test_opset_out_of_range(tmp_path: Path, opset: int) -> None:
    refused(tmp_path, model(RELU, opset=opset), "opset of 9 to 21", str(opset))


ONE = np.array(1, np.float32)
HUGE = np.array([1 << 20, 1 << 20], np.int64)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("ConstantOfShape", ["s"])], {"s": HUGE}),
        ([node("ConstantOfShape", ["s"])], {"s": np.array([-5], np.int64)}),
        ([node("Expand", ["one", "s"])], {"s": HUGE, "one": ONE}),
        ([node("Range", ["zero", "one", "tiny"])], {"zero": ONE * 0, "one": ONE, "tiny": ONE * np.float32(1e-12)}),
        ([node("Range", ["one", "one", "zero"])], {"zero": ONE * 0, "one": ONE}),
        ([node("Tile", ["x", "s"])], {"s": np.array([1 << 40, 1, 1, 1])}),
        ([node("Pad", ["x", "s"])], {"s": np.array([0, 0, 1 << 40, 0, 0, 0, 0, 0])}),
        ([node("Resize", ["x", "", "", "s"])], {"s": np.array([1, 3, 1 << 20, 1 << 20])}),
        ([node("Resize", ["x", "", "s"])], {"s": np.array([1, 1, np.inf, np.nan], np.float32)}),
        ([node("Conv", ["x", "w"], pads=[1 << 30] * 4)], {"w": np.ones((1, 3, 3, 3), np.float32)}),
        ([node("MaxPool", ["x"], kernel_shape=[1 << 40, 1])], {}),
        ([node("MaxPool", ["x"], kernel_shape=[0, 0])], {}),
        ([node("MaxPool", ["x"], kernel_shape=[2, 2], strides=[0, 0])], {}),
    ],
)
def test_absurd_sizes(tmp_path: Path, nodes: list[NodeProto], constants: dict[str, np.ndarray]) -> None:
    refused(tmp_path, model(*nodes, constants=constants), "n_y")


def test_sizes_that_grow_in_steps(tmp_path: Path) -> None:
    names = ["x", *(f"t{index}" for index in range(40)), "y"]
    pairs = pairwise(names)
    refused(tmp_path, model(*(node("Concat", [a, a], b, axis=3) for a, b in pairs)), "GiB")


def test_shape_arithmetic_that_grows_in_steps(tmp_path: Path) -> None:
    names = ["s", *(f"t{index}" for index in range(50))]
    squares = [node("Mul", [a, a], b) for a, b in pairwise(names)]
    refused(tmp_path, model(node("Shape", ["x"], "s"), *squares, node("Reshape", ["x", "t49"])), "n_y")
    doubled = [node("Concat", [a, a], b, axis=0) for a, b in pairwise(names)]
    refused(tmp_path, model(node("Shape", ["x"], "s"), *doubled, node("Reshape", ["x", "t49"])))


@pytest.mark.parametrize(
    ("broken", "constants", "wanted"),
    [
        (node("Concat", ["x", "x"], axis="one"), {}, "attribute 'axis': expected an integer"),
        (node("Conv", ["x", "w"], strides=[1]), {"w": np.ones((1, 3, 3, 3), np.float32)}, "'strides'"),
        (node("Conv", ["x", "w"]), {"w": np.ones((1, 5, 3, 3), np.float32)}, "n_y"),
        (node("Add", ["x", "w"]), {"w": np.ones(7, np.float32)}, "n_y"),
        (node("Cast", ["x"], to=8), {}, "element type"),
        (node("Gather", ["x", "w"], axis=9), {"w": np.array([0])}, "n_y"),
        (node("Transpose", ["x"], perm=[0, 0, 0, 0]), {}, "(Transpose)"),
        (node("Relu", []), {}, "expected input 0"),
        (node("Reshape", ["x", "w"]), {"w": np.array([7, -1])}, "n_y"),
        (node("Resize", ["x", "", "w"], mode="magic"), {"w": np.ones(4, np.float32)}, "'mode'"),
    ],
)
def test_nodes_that_do_not_fit(
    tmp_path: Path, broken: NodeProto, constants: dict[str, np.ndarray], wanted: str
) -> None:
    refused(tmp_path, model(broken, constants=constants), wanted)


def test_deep_graphs_are_no_trouble(tmp_path: Path) -> None:
    names = ["x", *(f"t{index}" for index in range(5000)), "y"]
    onnx.save(model(*(node("Relu", [a], b) for a, b in pairwise(names))), tmp_path / "m.onnx")
    graph = optimise(parse_model(tmp_path / "m.onnx"), REGISTRY)
    assert len(graph.nodes) == 5001
    GraphModule(graph, REGISTRY)
