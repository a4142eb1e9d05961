"""Networks from graph files and exported programs: one image in, the same outputs from each backend."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.export import Dim

from services.infer.engine.exported import load_exported
from services.infer.network import BuildOptions, Network, load_network
from stagemesh.errors import ConfigError
from stagemesh.repository import ModelFolder
from tests.engine_build.tiny import CPU, images

IMAGE = images(3)


class Small(nn.Module):
    """FP32 [N,3,H,W] to [N,4] and [N,4,H/2,W/2]; reads sizes, which only a dynamic export keeps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.conv(x)
        return features.reshape(x.shape[0], 4, -1).mean(2), features


def load(folder: Path, source: str, **keys: object) -> Network:
    table = {"source": source, "outputs": ["mean", "map"], "size": [16, 16], **keys}
    model = ModelFolder("small", folder, "custom", (), {"infer": table})
    return load_network(model, table, CPU, folder / "cache", BuildOptions(max_batch=4))


def save_onnx(path: Path, element: int, opset: int) -> None:
    """A graph that gives its input as `all`, and its largest value as `most`."""
    axes = {"axes": [1, 2, 3]} if opset < 18 else {}
    inputs = ["x"] if opset < 18 else ["x", "axes"]
    constants = [] if opset < 18 else [helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])]
    nodes = [
        helper.make_node("Identity", ["x"], ["all"], name="same"),
        helper.make_node("ReduceMax", inputs, ["most"], name="most", keepdims=0, **axes),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", element, ["n", None, None, None])],
        [helper.make_tensor_value_info(name, element, None) for name in ("all", "most")],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize(
    "keys",
    [
        {"channels": "BGR", "mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]},
        {"layout": "NHWC", "scale": "max", "std": [255.0, 255.0, 255.0]},
        {"layout": "NHWC", "channels": "BGR", "dtype": "int32"},
        {"size": None},
    ],
    ids=["bgr", "max", "int32", "any size"],
)
def test_onnxruntime_sees_what_the_eager_graph_sees(tmp_path: Path, opset: int, keys: dict[str, object]) -> None:
    save_onnx(tmp_path / "net.onnx", TensorProto.INT32 if keys.get("dtype") else TensorProto.FLOAT, opset)
    keys = {"outputs": {"pixels": "all", "peak": "most"}, "size": [16, 16], **keys}
    keys = {key: value for key, value in keys.items() if value is not None}
    eager, other = (load(tmp_path, "net.onnx", backend=name, **keys) for name in ("eager", "onnxruntime"))
    assert (eager.platform, other.platform) == ("pytorch", "onnxruntime_onnx")
    assert eager.signature() == other.signature()
    for name, wanted in eager.run({"image": IMAGE}, {}).items():
        found = other.run({"image": IMAGE}, {})[name]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_outputs_are_chosen_by_name(tmp_path: Path) -> None:
    save_onnx(tmp_path / "net.onnx", TensorProto.FLOAT, 18)
    network = load(tmp_path, "net.onnx", outputs={"peak": "most"}, backend="onnxruntime", layout="NHWC")
    assert [spec.name for spec in network.signature().outputs] == ["peak"]
    np.testing.assert_array_equal(network.run({"image": IMAGE}, {})["peak"], IMAGE.max((1, 2, 3)))
    with pytest.raises(ConfigError, match=r"key 'outputs': 'peak': expected one of all, most, found 'least'"):
        load(tmp_path, "net.onnx", outputs={"peak": "least"})
    with pytest.raises(ConfigError, match=r"expected 1 outputs of the network \(one\), got 2"):
        load(tmp_path, "net.onnx", outputs=["one"])


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An exported program of Small, its batch dynamic."""
    path = tmp_path / "net.pt2"
    shapes = ({0: Dim.AUTO(min=1, max=8)},)
    torch.export.save(torch.export.export(Small().eval(), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=shapes), path)
    return path


@pytest.mark.parametrize("backend", ["eager", "onnxruntime"])
def test_an_exported_program_runs(exported: Path, backend: str) -> None:
    network = load(exported.parent, "net.pt2", backend=backend)
    with torch.inference_mode():
        wanted = Small()(torch.from_numpy(IMAGE).permute(0, 3, 1, 2).float())
    for name, expected in zip(("mean", "map"), wanted, strict=True):
        np.testing.assert_allclose(network.run({"image": IMAGE}, {})[name], expected, rtol=1e-4, atol=1e-3)


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.proof), "w")


def repacked(path: Path, change: Callable[[str, bytes], bytes], more: dict[str, bytes] | None = None) -> Path:
    """The archive with each file's content changed, and more files in it."""
    target = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as changed:
        root = source.namelist()[0].partition("/")[0]
        for entry in source.namelist():
            changed.writestr(entry, change(entry, source.read(entry)))
        for name, content in (more or {}).items():
            changed.writestr(f"{root}/{name}", content)
    return target


def test_nothing_is_unpickled(exported: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    bomb = io.BytesIO()
    torch.save((Trap(proof),), bomb)
    path = repacked(exported, lambda name, old: bomb.getvalue() if "sample_inputs" in name else old)
    with pytest.raises(ConfigError, match="expected a torch exported program"):
        load_exported(path)
    for name in ("data/constants/custom_obj_0", "data/constants/opaque_obj_0"):
        with pytest.raises(ConfigError, match="found code or objects"):
            load_exported(repacked(exported, lambda _, old: old, {name: pickle.dumps(Trap(proof))}))
    assert not proof.exists()


def test_native_code_in_an_exported_program_is_refused(exported: Path) -> None:
    path = repacked(exported, lambda _, old: old, {"data/aotinductor/model/x.so": b"\x7fELF"})
    with pytest.raises(ConfigError, match="found code or objects"):
        load_exported(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("torch.ops.aten.conv2d.default", "torch.hub.load", "expected operators of torch, found 'torch.hub.load'"),
        ("torch.ops.aten.conv2d.default", "#x:y", "expected operators of torch, found '#x:y'"),
        (r"Symbol(", r"__import__('os').system(", "expected a size as an expression"),
        (r"Symbol(", r"open(", "expected a size as an expression"),
        ('"use_pickle": false', '"use_pickle": true', "expected plain tensors, found a pickled one"),
    ],
)
def test_a_graph_that_reaches_beyond_tensors_is_refused(exported: Path, old: str, new: str, message: str) -> None:
    path = repacked(exported, lambda name, text: text.replace(old.encode(), new.encode()) if "json" in name else text)
    assert path.read_bytes() != exported.read_bytes()
    with pytest.raises(ConfigError, match=message):
        load_exported(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + bytes(60)])
def test_a_broken_exported_program_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pt2").write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.toml \[infer\]: net\.pt2: expected a torch exported program"):
        load(tmp_path, "net.pt2")


def test_a_cut_exported_program_is_refused(exported: Path) -> None:
    exported.write_bytes(exported.read_bytes()[:-200])
    with pytest.raises(ConfigError, match=r"net\.pt2: expected a torch exported program"):
        load_exported(exported)


def test_an_exported_program_has_no_output_names(exported: Path) -> None:
    with pytest.raises(ConfigError, match="expected a list, since the outputs of this network have no names"):
        load(exported.parent, "net.pt2", outputs={"mean": "mean"})


@pytest.mark.parametrize("keys", [{"precision": "fp16"}, {"precision": "bf16"}])
def test_half_precision_needs_a_gpu(exported: Path, keys: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"precision '.*16': expected a GPU for it, found device 'cpu'"):
        load(exported.parent, "net.pt2", **keys)


def test_the_manifest_tells_what_was_chosen(exported: Path) -> None:
    network = load(exported.parent, "net.pt2")
    (path,) = (exported.parent / "cache" / "engines").glob("small-*/manifest.json")
    tactic = json.loads(path.read_text())["tactics"][str(torch.get_num_threads())]
    assert "+".join(sorted(set(tactic["choice"].values()))) == network.engine.backend
