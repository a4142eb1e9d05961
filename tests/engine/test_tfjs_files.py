"""TensorFlow.js files: quantised weights, shards, signatures; and those that are broken or mean harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.infer.engine.module import GraphModule
from services.infer.engine.parsers import parse_model
from services.infer.engine.registry import Call, OperatorRegistry, Result
from stagemesh.errors import ConfigError
from tests.engine.cases_math import real
from tests.engine.single_op import REGISTRY
from tests.engine.tfjs_models import node, placeholder, write_model

X = real(2, 3)


def added(folder: Path, weight: dict[str, Any], data: bytes, paths: list[str]) -> Path:
    """A model that adds one weight, its bytes spread over `paths`."""
    path = write_model(folder, [placeholder("x", X), node("y", "AddV2", ["x", "w"]), node("w", "Const")], {}, ["y"])
    model = json.loads(path.read_text())
    model["weightsManifest"] = [{"paths": paths, "weights": [{"name": "w", **weight}]}]
    path.write_text(json.dumps(model))
    part = -(-len(data) // len(paths))
    for index, name in enumerate(paths):
        (folder / name).write_bytes(data[index * part : (index + 1) * part])
    return path


@pytest.mark.parametrize(
    ("stored", "quantization"),
    [
        (np.array([0, 100, 255], np.uint8), {"dtype": "uint8", "scale": 0.5, "min": -3.0}),
        (np.array([0, 1000, 65535], np.uint16), {"dtype": "uint16", "scale": 1e-3, "min": -1}),
        (np.array([0.5, -2, 7], np.float16), {"dtype": "float16", "original_dtype": "float32"}),
    ],
)
@pytest.mark.parametrize("paths", [["a.bin"], ["a.bin", "b.bin"]])
def test_quantised_weights(tmp_path: Path, stored: np.ndarray, quantization: dict[str, Any], paths: list[str]) -> None:
    weight = {"shape": [3], "dtype": "float32", "quantization": quantization}
    graph = parse_model(added(tmp_path, weight, stored.tobytes(), paths))
    real_values = stored.astype(np.float32) * quantization.get("scale", 1) + quantization.get("min", 0)
    np.testing.assert_allclose(graph.constants["w"].numpy(), real_values, rtol=1e-6)
    (found,) = GraphModule(graph, REGISTRY)(torch.from_numpy(X))
    np.testing.assert_allclose(found.numpy(), X + real_values, rtol=1e-5)


def test_the_signature_orders_inputs_and_names_outputs(tmp_path: Path) -> None:
    info = {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": "-1"}, {"size": "3"}]}}
    path = write_model(
        tmp_path,
        [placeholder("a", X), placeholder("b", X), node("d", "Sub", ["b", "a:0", "^a"]), node("unused", "Relu", ["d"])],
        {},
        ["d"],
        signature={
            "inputs": {"second": {"name": "b:0"} | info, "first": {"name": "a:0"} | info},
            "outputs": {"difference": {"name": "d:0"} | info},
        },
    )
    graph = parse_model(path)
    assert [item.name for item in graph.inputs] == ["b", "a"]
    assert [(item.name, item.dtype, item.shape) for item in graph.outputs] == [("d", torch.float32, (None, 3))]
    assert len(graph.nodes) == 1


def test_without_a_signature_the_last_nodes_are_outputs(tmp_path: Path) -> None:
    nodes = [placeholder("x", X), node("a", "Relu", ["x"]), node("b", "Sqrt", ["a"]), node("c", "Exp", ["a"])]
    assert [info.name for info in parse_model(write_model(tmp_path, nodes, {}, [], signature=None)).outputs] == [
        "b",
        "c",
    ]


def test_an_operation_of_a_plug_in(tmp_path: Path) -> None:
    nodes = [placeholder("x", X), node("y", "Fancy", ["x"], gain=3.0), node("z", "Relu", ["y:1"])]
    graph = parse_model(write_model(tmp_path, nodes, {}, ["z"]))
    with pytest.raises(ConfigError, match=r"Fancy \(domain 'tensorflow', opset 1; nodes 'y'\)"):
        GraphModule(graph, REGISTRY)
    registry = OperatorRegistry()
    registry.include(REGISTRY)

    @registry.register("Fancy", domain="tensorflow")
    def fancy(call: Call) -> Result:
        return call.tensor(0), call.tensor(0) * call.node.real("gain", 1.0)

    (found,) = GraphModule(graph, registry)(torch.from_numpy(X))
    np.testing.assert_allclose(found.numpy(), np.maximum(X * 3, 0), rtol=1e-6)


GOOD = {"shape": [3], "dtype": "float32"}


@pytest.mark.parametrize(
    ("weight", "size", "wanted"),
    [
        (GOOD, 11, "expected 12 bytes"),
        (GOOD, 13, "expected 12 bytes"),
        (GOOD | {"shape": [1 << 50]}, 12, "bytes"),
        (GOOD | {"shape": [-3]}, 12, "0 or more"),
        (GOOD | {"shape": [3.5]}, 12, "integers"),
        (GOOD | {"shape": "3"}, 12, "'shape'"),
        (GOOD | {"dtype": "string"}, 12, "dtype"),
        (GOOD | {"quantization": {"dtype": "uint4"}}, 12, "quantization"),
        (GOOD | {"quantization": {"dtype": "uint8", "min": 0}}, 3, "'scale'"),
        (GOOD | {"quantization": {"dtype": "uint8", "min": 0, "scale": "1"}}, 3, "'scale'"),
    ],
)
def test_broken_weights(tmp_path: Path, weight: dict[str, Any], size: int, wanted: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.json") as caught:
        parse_model(added(tmp_path, weight, bytes(size), ["a.bin"]))
    assert wanted in str(caught.value)


def test_shards_stay_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = added(folder, GOOD, bytes(12), ["a.bin"])
    (tmp_path / "secret.bin").write_bytes(bytes(12))
    for name in ("../secret.bin", "/etc/passwd", "none.bin"):
        model = json.loads(path.read_text())
        model["weightsManifest"][0]["paths"] = [name]
        path.write_text(json.dumps(model))
        with pytest.raises(ConfigError, match=r"'\.\./|'/etc|'none"):
            parse_model(path)


def broken(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    nodes = [placeholder("x", X), node("y", "AddV2", ["x", "w"])]
    path = write_model(folder, nodes, {"w": real(3)}, ["y"])
    model = json.loads(path.read_text())
    change(model)
    path.write_text(json.dumps(model))
    return path


def last(model: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = model["modelTopology"]["node"][-1]
    return found


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda m: m.update(format="layers-model"), "graph-model"),
        (lambda m: m.pop("modelTopology"), "graph-model"),
        (lambda m: m.update(modelTopology=[]), "'modelTopology'"),
        (lambda m: m.update(weightsManifest={}), "'weightsManifest'"),
        (lambda m: m["modelTopology"].update(node="no"), "'node'"),
        (lambda m: m["modelTopology"]["node"].append(7), "expected an object"),
        (lambda m: m["modelTopology"]["node"].append(last(m)), "found twice: 'y'"),
        (lambda m: last(m).update(input=["x", "ghost"]), "'ghost'"),
        (lambda m: last(m).update(input=["x", "y"]), "cycle"),
        (lambda m: last(m).update(input=["x", 5]), "inputs that are names"),
        (lambda m: last(m).update(attr=[]), "'attr'"),
        (lambda m: m["weightsManifest"][0]["weights"][0].update(name="v"), "weightsManifest, found none"),
        (lambda m: m["signature"]["outputs"].update(ghost={"name": "ghost"}), "'ghost'"),
        (lambda m: m["signature"].update(inputs={"w": {"name": "w"}}), "placeholders"),
        (lambda m: m["signature"].update(outputs=[]), "'outputs'"),
        (lambda m: last(m).update(op="Conv2D", attr={"strides": {"list": {"i": ["x"]}}}), "y"),
        (lambda m: last(m).update(op="Conv2D", attr={"strides": 7}), "'strides'"),
        (lambda m: last(m).update(op="Cast", attr={"DstT": {"type": "DT_STRING"}}), "DT_STRING"),
        (lambda m: last(m).update(op="Unpack", attr={"num": {"i": str(1 << 60)}}), "1 to 65536"),
        (lambda m: last(m).update(op="Transpose", input=["w", "x"]), "permutation to be constant"),
    ],
)
def test_broken_files(tmp_path: Path, change: Callable[[dict[str, Any]], object], wanted: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.json") as caught:
        parse_model(broken(tmp_path, change))
    assert wanted in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\xff\xfe"])
def test_not_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"model\.json"):
        parse_model(tmp_path / "model.json")
