"""The plug-in `classify` on made-up and hypothesis-made logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from services.postprocess.activations import softmax
from services.postprocess.classify import ClassifyOptions, ClassifyPostprocessor, best_classes
from stagemesh.errors import InvalidInput
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays
from stagemesh.repository import ModelFolder

LABELS = ("ant", "bee", "cat", "dög")


def classify(
    logits: list[list[float]], option: int = 5, labels: tuple[str, ...] = LABELS, **parameters: Parameter
) -> Arrays:
    folder = ModelFolder("m", Path("m"), "classify", labels, {})
    plugin = ClassifyPostprocessor(ClassifyOptions(top_k=option), folder)
    return plugin.run({"logits": np.array(logits, np.float32)}, parameters)


def test_best_first_with_labels() -> None:
    out = classify([[0, 1, 2, 3], [9, 1, 2, 3]], option=2)
    assert out["class_ids"].tolist() == [[3, 2], [0, 3]]
    assert out["labels"].tolist() == [["dög".encode(), b"cat"], [b"ant", "dög".encode()]]
    assert np.allclose(out["scores"][0], [0.6439142, 0.2368828])
    assert [out[name].dtype.str for name in ("class_ids", "scores", "labels")] == ["<i4", "<f4", "|O"]


def test_the_option_is_capped_by_the_classes_and_the_parameter_overrides() -> None:
    assert classify([[1, 2, 3, 4]], option=100)["scores"].shape == (1, 4)
    assert classify([[1, 2, 3, 4]], option=100, top_k=3)["scores"].shape == (1, 3)


@pytest.mark.parametrize("value", [0, -1, 5, "2", 2.0, True])
def test_bad_top_k(value: Parameter) -> None:
    folder = ModelFolder("m", Path("m"), "classify", LABELS, {})
    plugin = ClassifyPostprocessor(ClassifyOptions(), folder)
    with pytest.raises(InvalidInput, match=r"parameter 'top_k': expected an integer from 1 to 4, found"):
        plugin.run({"logits": np.zeros((1, 4), np.float32)}, {"top_k": value})


def test_equal_logits_come_in_class_order() -> None:
    assert classify([[0.0, -0.0, 0.0, -0.0]], option=3)["class_ids"].tolist() == [[0, 1, 2]]
    assert best_classes(np.full((2, 1000), 7, np.float32), 5).tolist() == [[0, 1, 2, 3, 4]] * 2


def test_huge_logits_do_not_overflow() -> None:
    out = classify([[3e38, -3e38, -np.inf, 0]])
    assert out["scores"].tolist() == [[1.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(bad: float) -> None:
    with pytest.raises(InvalidInput, match=r"expected finite numbers, found (nan|inf) as the largest of row 1"):
        classify([[1, 2, 3, 4], [1, bad, 3, 4]])


def test_count_of_classes_must_fit_the_labels() -> None:
    with pytest.raises(InvalidInput, match="expected 4 classes, the labels of model 'm', found 3"):
        classify([[1, 2, 3]])
    with pytest.raises(InvalidInput, match="expected 1 to 100,000 classes, found 0"):
        classify([[]], labels=())


def test_without_labels_the_ids_are_named() -> None:
    assert classify([[1, 5, 3]], option=2, labels=())["labels"].tolist() == [[b"1", b"2"]]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_same_as_a_stable_sort(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 40)))
    numbers = st.one_of(st.integers(-2, 2).map(float), st.floats(-(2.0**99), 2.0**99, width=32))
    logits: NDArray[np.float32] = data.draw(arrays.arrays(np.float32, shape, elements=numbers))
    top_k = data.draw(st.integers(1, shape[1]))
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    assert best_classes(logits, top_k).tolist() == expected.tolist()
    assert np.allclose(softmax(logits).sum(axis=1), 1, atol=1e-5)
