"""Models of one operation, and what a foreign engine computes with them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper
from onnx.defs import get_all_schemas_with_history
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_shapes

from services.infer.engine.module import GraphModule
from services.infer.engine.onnx_parser import graph_of
from services.infer.engine.operators import standard_registry

FIRST_OPSET, LAST_OPSET = 9, 21
REGISTRY = standard_registry()

Array = npt.NDArray[Any]

_VERSIONS: dict[str, set[int]] = {}
for _schema in get_all_schemas_with_history():
    if _schema.domain == "":
        _VERSIONS.setdefault(_schema.name, set()).add(_schema.since_version)


@dataclass(frozen=True)
class Case:
    """One operation; `constant` are the inputs that are part of the model, None an input left out."""

    op: str
    inputs: Sequence[Array | None]
    label: str = ""
    since: int = FIRST_OPSET
    until: int = LAST_OPSET
    constant: Sequence[int] = ()
    outputs: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)

    def opsets(self) -> list[int]:
        """Every opset that changed the operation, and the first and last the case is written for."""
        first = max(FIRST_OPSET, self.since, min(_VERSIONS[self.op]))
        changed = {version for version in _VERSIONS[self.op] if first <= version <= self.until}
        return sorted(changed | {first, self.until})


def rows(cases: Iterable[Case]) -> list[Any]:
    """One pytest parameter for each case."""
    return [pytest.param(case, id=f"{case.op}-{case.label or _label(case)}") for case in cases]


def _label(case: Case) -> str:
    return "-".join(f"{key}={value}".replace(" ", "") for key, value in case.attributes.items())[:60] or "plain"


def model_of(case: Case, opset: int) -> ModelProto:
    """The case as an ONNX model, the shapes of its inputs and outputs left open."""
    names = [f"x{index}" if value is not None else "" for index, value in enumerate(case.inputs)]
    given = {index: value for index, value in enumerate(case.inputs) if value is not None}
    node = helper.make_node(case.op, names, [f"y{index}" for index in range(case.outputs)], name="n", **case.attributes)
    inputs = [
        helper.make_tensor_value_info(names[index], helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        for index, value in given.items()
        if index not in case.constant
    ]
    constants = [
        numpy_helper.from_array(np.asarray(given[index]), names[index]) for index in case.constant if index in given
    ]
    outputs = [ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return infer_shapes(model)  # which fills in the types of the outputs


def feeds_of(case: Case) -> dict[str, Array]:
    """What a caller passes to the model of `case`."""
    return {
        f"x{index}": np.asarray(value)
        for index, value in enumerate(case.inputs)
        if value is not None and index not in case.constant
    }


def expected(model: ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """What onnxruntime computes; the reference evaluator where onnxruntime has no kernel for the types."""
    try:
        return list(session(model).run(None, feeds))
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return list(ReferenceEvaluator(model).run(None, feeds))


def session(model: ModelProto) -> onnxruntime.InferenceSession:
    """An onnxruntime session on one thread that keeps quiet."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def computed(model: ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """What our graph of `model` computes."""
    with tempfile.TemporaryDirectory() as folder:
        graph = graph_of(model, Path(folder), "model.onnx")
    module = GraphModule(graph, REGISTRY)
    with torch.inference_mode():
        outputs = module(*(torch.from_numpy(np.array(feeds[info.name])) for info in graph.inputs))
    return [output.numpy() for output in outputs]


def assert_close(found: Sequence[Array], wanted: Sequence[Array], tolerance: float = 1e-4) -> None:
    """Same number, shapes, dtypes; the largest difference at most `tolerance` of the largest value."""
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if theirs.dtype.kind != "f":
            np.testing.assert_array_equal(ours, theirs)
            continue
        finite = np.abs(theirs[np.isfinite(theirs)])
        scale = float(finite.max()) if finite.size else 0.0
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale + 1e-7, equal_nan=True)
