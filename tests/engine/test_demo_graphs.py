"""The graphs of the demo repository: the same numbers as onnxruntime's, before and after optimising and exporting."""

from __future__ import annotations

import onnx
import pytest
import torch

from services.infer.engine.batch import allow_batches
from services.infer.engine.graph import RuntimeGraph
from services.infer.engine.graph_to_onnx import graph_to_onnx
from services.infer.engine.module import GraphModule
from services.infer.engine.operators import standard_registry
from services.infer.engine.optimise import optimise
from services.infer.engine.shapes import infer_shapes
from tests.engine.conftest import Demo
from tests.engine.single_op import Array, assert_close, session

REGISTRY = standard_registry()


def outputs_of(graph: RuntimeGraph, image: torch.Tensor) -> list[Array]:
    with torch.inference_mode():
        return [output.numpy() for output in GraphModule(graph, REGISTRY)(image)]


def onnxruntime_of(model: onnx.ModelProto, name: str, image: torch.Tensor) -> list[Array]:
    return list(session(model).run(None, {name: image.numpy()}))


@pytest.fixture(scope="module")
def ours(demo: Demo) -> list[Array]:
    return outputs_of(demo.graph, demo.image)


@pytest.fixture(scope="module")
def batched(demo: Demo) -> RuntimeGraph | None:
    return allow_batches(demo.graph, REGISTRY, [demo.image.shape])


def test_equals_onnxruntime_on_the_file(demo: Demo, ours: list[Array]) -> None:
    if demo.path.suffix != ".onnx":
        pytest.skip("onnxruntime reads ONNX files alone")
    model = onnx.load(demo.path)
    for value in model.graph.input:  # CenterFace declares sizes that it does not have
        value.type.tensor_type.ClearField("shape")
    assert_close(ours, onnxruntime_of(model, demo.graph.inputs[0].name, demo.image))


def test_onnxruntime_runs_what_we_serialise(demo: Demo, ours: list[Array]) -> None:
    for graph in (demo.graph, optimise(demo.graph, REGISTRY)):
        model = graph_to_onnx(graph)
        onnx.checker.check_model(model)
        assert_close(onnxruntime_of(model, graph.inputs[0].name, demo.image), ours)


def test_reference_outputs_hold(demo: Demo, ours: list[Array]) -> None:
    named = {info.name: output[0] for info, output in zip(demo.graph.outputs, ours, strict=True)}
    if demo.name == "faces":
        assert named["537"].max() == pytest.approx(0.929, abs=0.01)
    elif demo.name == "segment":
        mask = named["1959"]
        share = ((mask - mask.min()) / (mask.max() - mask.min()) > 0.5).mean()
        assert share == pytest.approx(0.552, abs=0.01)
    elif demo.name == "detect":
        cup = 41
        best = max(output[:, cup].max() for output in named.values() if output.shape[1] == 80)
        assert best == pytest.approx(0.532, abs=0.01)
    else:
        y, x, score = named["Identity"][0].T
        for joint, (left, top, sure) in {0: (221, 120, 0.53), 1: (246, 100, 0.71), 5: (319, 274, 0.75)}.items():
            assert (x[joint] * 512, y[joint] * 512) == pytest.approx((left, top), abs=3)
            assert score[joint] == pytest.approx(sure, abs=0.01)


def test_optimising_keeps_the_outputs(demo: Demo, ours: list[Array]) -> None:
    small = optimise(demo.graph, REGISTRY)
    assert_close(outputs_of(small, demo.image), ours)
    assert [node for node in small.nodes if node.op_type == "BatchNormalization"] == []


def test_transposes_are_gone(demo: Demo) -> None:
    small = optimise(demo.graph, REGISTRY)
    before, after = (sum(node.op_type == "Transpose" for node in graph.nodes) for graph in (demo.graph, small))
    if demo.path.suffix == ".json":
        assert before > 150
        assert after <= 6
    else:
        assert before == after == 0


def test_inferred_shapes_are_those_of_a_run(demo: Demo, ours: list[Array]) -> None:
    found = infer_shapes(demo.graph, REGISTRY, [demo.image.shape])
    assert [found[info.name].shape for info in demo.graph.outputs] == [output.shape for output in ours]
    assert {name for node in demo.graph.nodes for name in node.outputs if name} <= found.keys()


def test_exports_with_a_dynamic_batch(demo: Demo, ours: list[Array], batched: RuntimeGraph | None) -> None:
    module = GraphModule(optimise(batched or demo.graph, REGISTRY), REGISTRY).eval()
    if batched is None:
        exported = torch.export.export(module, (demo.image,))
        assert_close([output.detach().numpy() for output in exported.module()(demo.image)], ours)
        return
    pair = torch.cat([demo.image, demo.image.flip(3)])
    batch = torch.export.Dim("batch", min=1, max=16)
    exported = torch.export.export(module, (pair,), dynamic_shapes=(({0: batch},),))
    with torch.inference_mode():
        three = exported.module()(torch.cat([pair, demo.image]))
    for row in (0, 2):
        assert_close([output[row : row + 1].numpy() for output in three], ours)


def test_a_sample_does_not_depend_on_its_batch(demo: Demo, ours: list[Array], batched: RuntimeGraph | None) -> None:
    assert (batched is None) == (demo.name == "pose")  # which decodes one person inside its graph
    if batched is not None:
        together = outputs_of(batched, torch.cat([demo.image.flip(3), demo.image]))
        assert_close([output[1:] for output in together], ours)
