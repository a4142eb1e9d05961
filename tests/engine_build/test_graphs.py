"""Graph files on their way to an engine: hostile sizes, batches, operators of the user's own."""

from __future__ import annotations

import re
import resource
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from services.infer.network import BuildOptions, Network, load_network
from stagemesh.errors import ConfigError
from stagemesh.repository import ModelFolder
from tests.engine_build.tiny import CPU, images

DOC = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
IMAGES = images(4)


def save(folder: Path, *nodes: NodeProto, **constants: NDArray[np.generic]) -> None:
    """A graph from `x` FP32 [1,3,16,16] to `y`."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "net.onnx")


def load(folder: Path, max_batch: int = 4, **keys: object) -> Network:
    table = {"source": "net.onnx", "outputs": ["y"], "size": [16, 16], "std": [255.0] * 3, **keys}
    model = ModelFolder("small", folder, "custom", (), {"infer": table})
    return load_network(model, table, CPU, folder / "cache", BuildOptions(max_batch=max_batch))


def run(network: Network, image: NDArray[np.generic]) -> NDArray[np.generic]:
    return network.run({"image": image}, {})["y"]


@pytest.mark.parametrize("backend", ["auto", "eager", "onnxruntime"])
def test_a_graph_that_would_fill_the_memory_is_refused_before_it_runs(tmp_path: Path, backend: str) -> None:
    names = ["x", *(f"t{index}" for index in range(20)), "y"]
    save(tmp_path, *(helper.make_node("Concat", [one, one], [two], axis=3) for one, two in pairwise(names)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=r"model\.toml \[infer\]: .* needs more than 4\.0 GiB"):
        load(tmp_path, backend=backend)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10


@pytest.mark.parametrize("backend", ["eager", "onnxruntime"])
def test_a_graph_written_for_one_sample_takes_a_batch(tmp_path: Path, backend: str) -> None:
    flat = helper.make_node("Reshape", ["x", "c"], ["flat"])
    save(tmp_path, flat, helper.make_node("Softmax", ["flat"], ["y"], axis=2), c=np.array([1, 3, -1]))
    network = load(tmp_path, backend=backend)
    together = run(network, IMAGES)
    assert together.shape == (4, 3, 256)
    for row in range(4):
        np.testing.assert_allclose(together[row : row + 1], run(network, IMAGES[row : row + 1]), rtol=1e-5)


def test_a_graph_that_mixes_samples_takes_one_at_a_time(tmp_path: Path) -> None:
    total = helper.make_node("ReduceMax", ["x"], ["most"], axes=[0], keepdims=1)
    save(tmp_path, total, helper.make_node("Sub", ["x", "most"], ["y"]))
    with pytest.raises(ConfigError, match=r"net\.onnx: .* expected max_batch = 1 for this graph, found 4"):
        load(tmp_path)
    assert run(load(tmp_path, 1), IMAGES[:1]).shape == (1, 3, 16, 16)


def test_values_that_are_no_numbers_do_not_keep_a_graph_from_batches(tmp_path: Path) -> None:
    save(tmp_path, helper.make_node("Sqrt", ["z"], ["y"]), helper.make_node("Neg", ["x"], ["z"]))
    assert np.isnan(run(load(tmp_path), IMAGES)).any()


def test_the_number_of_outputs_is_checked_before_anything_runs(tmp_path: Path) -> None:
    save(tmp_path, helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(ConfigError, match=r"expected 2 outputs of the network \(y, z\), got 1"):
        load(tmp_path, outputs=["y", "z"])


def swish(folder: Path) -> None:
    save(folder, helper.make_node("Swish", ["x"], ["y"], domain="com.example", beta=2.0))
    blocks = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    (folder / "ops.py").write_text(next(block for block in blocks if "OperatorRegistry" in block))


def test_operators_of_the_user_as_the_text_shows_them(tmp_path: Path) -> None:
    swish(tmp_path)
    with pytest.raises(ConfigError, match=r"1 operators are missing: Swish \(domain 'com\.example', opset 1;"):
        load(tmp_path)
    network = load(tmp_path, operators="file:ops.py:operators")
    assert network.platform == "pytorch"
    x = IMAGES.astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_allclose(run(network, IMAGES), x / (1 + np.exp(-2 * x)), rtol=1e-5)


def test_an_engine_is_made_anew_when_an_operator_changes(tmp_path: Path) -> None:
    swish(tmp_path)
    save(tmp_path, helper.make_node("Relu", ["x"], ["y"]))
    load(tmp_path, operators="file:ops.py:operators")
    (tmp_path / "ops.py").write_text((tmp_path / "ops.py").read_text() + "\n")
    load(tmp_path, operators="file:ops.py:operators")
    assert len(list((tmp_path / "cache" / "engines").glob("small-*/manifest.json"))) == 2


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("file:none.py:operators", r"model\.toml \[infer\]: key 'operators': .*none\.py"),
        ("file:ops.py:swish", "key 'operators': 'file:ops.py:swish': expected an OperatorRegistry, found function"),
        ("ops.py", r"key 'operators': expected 'file:module\.py:name', found 'ops\.py'"),
        ("file:../ops.py:operators", "key 'operators'"),
    ],
)
def test_operators_that_are_none(tmp_path: Path, reference: str, message: str) -> None:
    swish(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, operators=reference)


def test_operators_are_for_graphs_that_we_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"key 'operators': expected none beside 'net\.pt2', which torch runs"):
        load(tmp_path, source="net.pt2", operators="file:ops.py:operators")
