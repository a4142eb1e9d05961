"""Every operation, in every opset that changed it, computes what onnxruntime computes."""

from __future__ import annotations

import pytest

from tests.engine import cases_arrays, cases_layers, cases_math
from tests.engine.single_op import REGISTRY, Case, assert_close, computed, expected, feeds_of, model_of, rows

CASES = [*cases_math.CASES, *cases_layers.CASES, *cases_arrays.CASES]


@pytest.mark.parametrize("case", rows(CASES))
def test_equals_onnxruntime(case: Case) -> None:
    for opset in case.opsets():
        model, feeds = model_of(case, opset), feeds_of(case)
        try:
            assert_close(computed(model, feeds), expected(model, feeds))
        except Exception as error:
            error.add_note(f"in opset {opset}")
            raise


def test_every_operator_has_a_case() -> None:
    older_name = {"Scatter"}  # ScatterElements, before opset 11
    assert set(REGISTRY.op_types()) - older_name == {case.op for case in CASES}
