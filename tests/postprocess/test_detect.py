"""The plug-in `detect`: each head on tensors made by encoding known boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.postprocess.detect import DetectPostprocessor
from services.postprocess.nms import MOST_CANDIDATES
from stagemesh.errors import ConfigError, InvalidInput, StageFailed
from stagemesh.plugins import Arrays
from tests.postprocess.conftest import make, meta, peak_memory

LABELS = ("ant", "bee", "cat")
# Edges counted from the image's own upper left edge; the answer counts from the centre of its first pixel.
BOX = np.array([20.0, 30.0, 60.0, 90.0])
CENTRE = np.array([40.0, 60.0, 40.0, 60.0])
ON_PHOTO = (BOX - 0.5).tolist()


def one(inputs: Arrays, **keys: Any) -> Arrays:
    return make("detect", LABELS, **keys).run({**inputs, **meta()}, {})


def yolov5(*rows: tuple[NDArray[np.float64], float, list[float]]) -> Arrays:
    return {"predictions": np.array([[[*box, objectness, *scores] for box, objectness, scores in rows]], np.float32)}


def test_yolov5_multiplies_objectness_and_class() -> None:
    out = one(yolov5((CENTRE, 0.9, [0.1, 0.8, 0.2]), (CENTRE, 0.3, [1, 1, 1])), head="yolov5")
    assert out["boxes"].tolist() == [[ON_PHOTO]]
    assert out["scores"][0].tolist() == pytest.approx([0.72])
    assert (out["labels"].tolist(), out["class_ids"].tolist(), out["count"].tolist()) == ([[b"bee"]], [[1]], [1])


def test_yolov8_is_read_by_columns() -> None:
    columns = np.array([[[*CENTRE, 0.1, 0.2, 0.7], [*CENTRE, 0.3, 0.1, 0.1]]], np.float32).transpose(0, 2, 1)
    out = one({"predictions": columns}, head="yolov8")
    assert out["boxes"].tolist() == [[ON_PHOTO]]
    assert out["labels"].tolist() == [[b"cat"]]


def test_yolov10_is_not_suppressed_again() -> None:
    rows = np.array([[[*BOX, 0.5, 0], [*BOX, 0.9, 0], [0, 0, 0, 0, 0, 0]]], np.float32)
    out = one({"predictions": rows}, head="yolov10", score_threshold=0.0)
    assert out["scores"].tolist() == [[pytest.approx(0.9), 0.5]]
    assert out["boxes"].tolist() == [[ON_PHOTO, ON_PHOTO]]


def test_a_class_id_without_a_label_is_the_networks_fault() -> None:
    rows = np.array([[[*BOX, 0.5, 3]]], np.float32)
    with pytest.raises(StageFailed, match="expected class ids from 0 to 2, the labels of model 'm', found 3"):
        one({"predictions": rows}, head="yolov10")


def test_nanodet_distances_are_means_of_distributions() -> None:
    scores, sides = np.zeros((1, 12, 3), np.float32), np.zeros((1, 12, 32), np.float32)
    scores[0, 6, 1] = 0.7  # row 1, column 2 of cells of 32 pixels: its centre is (80, 48)
    logits = sides.reshape(1, 12, 4, 8)
    logits[0, 6, :, :] = -50
    for side, bins in enumerate([(1,), (0, 1), (2,), (1, 2)]):
        logits[0, 6, side, list(bins)] = 0
    size = {"size": [96, 128], "strides": [32]}
    out = one({"scores_32": scores, "sides_32": sides}, head="nanodet", **size)
    np.testing.assert_allclose(out["boxes"][0, 0], np.array([80 - 32, 48 - 16, 80 + 64, 48 + 48]) - 0.5, atol=1e-4)
    joined = one({"predictions": np.concatenate([scores, sides], axis=2)}, head="nanodet", joined=True, **size)
    assert np.array_equal(joined["boxes"], out["boxes"])
    corner = one({"scores_32": scores, "sides_32": sides}, head="nanodet", cell_offset=0.0, **size)
    np.testing.assert_allclose(corner["boxes"][0, 0], np.array([64 - 32, 32 - 16, 64 + 64, 32 + 48]) - 0.5, atol=1e-4)


def test_nanodet_levels_follow_the_strides() -> None:
    inputs = {}
    for stride, cells in ((8, 4), (16, 1)):
        inputs[f"scores_{stride}"] = np.full((1, cells, 3), 0.5, np.float32)
        inputs[f"sides_{stride}"] = np.zeros((1, cells, 8), np.float32)
    out = one(inputs, head="nanodet", size=[16, 16], strides=[8, 16], iou_threshold=1.0)
    assert out["boxes"][0].tolist() == [
        [-0.5, -0.5, 7.5, 7.5], [3.5 + 4, -0.5, 15.5, 7.5], [-0.5, 7.5, 7.5, 15.5], [7.5, 7.5, 15.5, 15.5],
        [-0.5, -0.5, 15.5, 15.5],
    ]  # fmt: skip


def test_centerface() -> None:
    maps: Arrays = {name: np.zeros((1, n, 8, 16), np.float32) for name, n in (("heat", 1), ("scale", 2), ("offset", 2))}
    maps["points"] = np.zeros((1, 10, 8, 16), np.float32)
    maps["heat"][0, 0, 5, 7] = 0.8
    maps["scale"][0, :, 5, 7] = np.log([5, 3])  # height 20, width 12
    maps["offset"][0, :, 5, 7] = [0.25, -0.25]  # centre at y = 4 · 5.75, x = 4 · 7.25
    maps["points"][0, :, 5, 7] = [0.5, 0.25] + [0] * 6 + [1, 1]
    out = make("detect", ("face",), head="centerface").run({**maps, **meta()}, {})
    np.testing.assert_allclose(out["boxes"], [[[22.5, 12.5, 34.5, 32.5]]], atol=1e-4)
    np.testing.assert_allclose(out["landmarks"][0, 0, [0, 1, 4]], [[25.5, 22.5], [22.5, 12.5], [34.5, 32.5]], atol=1e-4)
    maps["scale"] = np.zeros((1, 2, 8, 15), np.float32)
    with pytest.raises(InvalidInput, match=r"input 'scale': expected maps of \(8, 16\) as of 'heat', got \(8, 15\)"):
        make("detect", ("face",), head="centerface").run({**maps, **meta()}, {})


def test_decoded_with_background_and_softmax() -> None:
    scores = np.log(np.array([[[0.1, 0.2, 0.6, 0.1], [0.9, 0.05, 0.03, 0.02]]], np.float32)) + 7
    boxes = np.array([[BOX, BOX]], np.float32)[..., [1, 0, 3, 2]] / [100, 200, 100, 200]
    out = one(
        {"boxes": boxes.astype(np.float32), "scores": scores},
        head="decoded", box_format="yxyx", normalised=True, size=[100, 200], activation="softmax", background=0,
    )  # fmt: skip
    np.testing.assert_allclose(out["boxes"], [[ON_PHOTO]], atol=1e-4)
    assert out["labels"].tolist() == [[b"bee"]]
    assert out["scores"][0].tolist() == pytest.approx([0.6])


def test_decoded_with_classes_of_the_graph() -> None:
    inputs = {
        "boxes": np.array([[BOX, BOX + 100]], np.float32),
        "scores": np.array([[2.0, -2.0]], np.float32),
        "class_ids": np.array([[2, 1]], np.int64),
    }
    out = one(inputs, head="decoded", class_id_type="INT64", activation="sigmoid")
    assert out["labels"].tolist() == [[b"cat"]]
    assert out["scores"][0].tolist() == pytest.approx([1 / (1 + np.exp(-2))])
    inputs["class_ids"] = np.array([[2]], np.int64)
    with pytest.raises(InvalidInput, match="input 'class_ids': expected 2 rows as of 'boxes', got 1"):
        one(inputs, head="decoded", class_id_type="INT64")


def test_a_batch_is_filled_up() -> None:
    plugin = make("detect", LABELS, head="yolov10")
    rows = np.zeros((3, 2, 6), np.float32)
    rows[0] = [[*BOX, 0.9, 1], [*BOX, 0.8, 2]]
    rows[2, 0] = [*BOX, 0.7, 0]
    double = (2, 0, 10, 0, 0.5, 5)
    out = plugin.run({"predictions": rows, **meta(double, double, double)}, {})
    assert out["count"].tolist() == [2, 0, 1]
    assert out["labels"].tolist() == [[b"bee", b"cat"], [b"", b""], [b"ant", b""]]
    assert out["class_ids"].tolist() == [[1, 2], [-1, -1], [0, -1]]
    assert out["scores"][1].tolist() == [0, 0]
    assert out["boxes"][2].tolist() == [[49, 19.75, 129, 49.75], [0, 0, 0, 0]]
    nothing = plugin.run({"predictions": np.zeros((1, 0, 6), np.float32), **meta()}, {})
    assert {name: array.shape for name, array in nothing.items()} == {
        "boxes": (1, 0, 4), "scores": (1, 0), "class_ids": (1, 0), "labels": (1, 0), "count": (1,),
    }  # fmt: skip


def test_what_lies_on_the_padding_is_dropped() -> None:
    rows = np.array([[[250, 20, 280, 60, 0.9, 1], [190, 20, 280, 60, 0.8, 1]]], np.float32)
    assert one({"predictions": rows}, head="yolov10")["boxes"].tolist() == [[[189.5, 19.5, 199.5, 59.5]]]


def test_parameters_override() -> None:
    plugin = make("detect", LABELS, head="yolov5", score_threshold=0.5, iou_threshold=0.5)
    near = CENTRE + np.array([4, 0, 0, 0])
    inputs = yolov5((CENTRE, 1, [0.9, 0, 0]), (near, 1, [0.8, 0, 0]), (near, 1, [0, 0.3, 0])) | meta()
    assert plugin.run(inputs, {})["count"].tolist() == [1]
    assert plugin.run(inputs, {"iou_threshold": 0.9})["count"].tolist() == [2]
    assert plugin.run(inputs, {"score_threshold": 0.2, "iou_threshold": 1})["count"].tolist() == [3]
    assert plugin.run(inputs, {"score_threshold": 0.2, "iou_threshold": 0.9, "top_k": 1})["count"].tolist() == [1]
    assert plugin.run(inputs, {"score_threshold": 0.2})["labels"].tolist() == [[b"ant", b"bee"]]
    agnostic = make("detect", LABELS, head="yolov5", class_agnostic=True)
    assert agnostic.run(inputs, {"score_threshold": 0.2})["labels"].tolist() == [[b"ant"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [("score_threshold", 1.1), ("score_threshold", "0.5"), ("iou_threshold", -0.1), ("iou_threshold", float("nan")),
     ("score_threshold", True), ("top_k", 0), ("top_k", 1001), ("top_k", 1.0)],
)  # fmt: skip
def test_bad_parameters(name: str, value: Any) -> None:
    plugin = make("detect", LABELS, head="yolov10")
    with pytest.raises(InvalidInput, match=f"^parameter '{name}': expected (a number from 0|an integer from 1) to "):
        plugin.run({"predictions": np.zeros((1, 1, 6), np.float32), **meta()}, {name: value})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_no_numbers(bad: float) -> None:
    rows = np.zeros((2, 3, 6), np.float32)
    rows[1, 2, 4] = bad
    with pytest.raises(
        InvalidInput, match=r"input 'predictions': expected finite numbers, found .+ at \[1, 2, 4\]"
    ) as e:
        one({"predictions": rows}, head="yolov10")
    assert e.value.reason == "NOT_FINITE"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"head": "yolov11"}, "key 'head': expected one of 'nanodet', 'centerface'"),
        ({"head": "nanodet"}, "key 'size': expected the key, found none"),
        ({"head": "yolov8", "size": [8, 8]}, "key 'size': expected none without normalised = true, found one"),
        ({"head": "yolov8", "joined": True}, "key 'joined': the head 'yolov8' has no such key"),
        ({"head": "centerface", "score_threshold": 2.0}, "key 'score_threshold': expected 0.0 to 1.0, found 2.0"),
        (
            {"head": "decoded", "class_id_type": "INT32", "background": 0},
            "key 'class_id_type': expected no 'background'",
        ),
    ],
)
def test_bad_keys(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"model.toml \[postprocess\]: {message}"):
        make("detect", LABELS, **keys)


def test_joined_needs_labels() -> None:
    with pytest.raises(ConfigError, match=r"key 'joined': expected a model with labels, found none"):
        make("detect", head="nanodet", size=[32, 32], joined=True)


def test_the_signature_knows_classes_and_cells() -> None:
    specs = make("detect", LABELS, head="nanodet", size=[96, 128], strides=[8, 16]).signature().inputs
    assert [(spec.name, spec.shape) for spec in specs[:3]] == [
        ("scores_8", (-1, 192, 3)), ("scores_16", (-1, 48, 3)), ("sides_8", (-1, 192, -1)),
    ]  # fmt: skip
    assert make("detect", head="yolov5").signature().inputs[0].shape == (-1, -1, -1)
    assert make("detect", LABELS, head="yolov8").signature().inputs[0].shape == (-1, 7, -1)
    assert make("detect", LABELS, head="decoded", background=-1).signature().inputs[1].shape == (-1, -1, 4)


MANY = 40_000
EVERYTHING = {"score_threshold": 0.0}


def many(head: str) -> Arrays:
    """MANY boxes whose scores rise from 0.5, in the form that a head reads; one of them, the last but one, is BOX."""
    scores = np.linspace(0.5, 0.9, MANY, dtype=np.float32)
    centres, corners = (np.tile(box.astype(np.float32), (MANY, 1)) for box in (CENTRE, BOX))
    others = np.arange(MANY) != MANY - 2
    centres[others] += 1000
    corners[others] += 1000
    ones, none = np.ones_like(scores), np.zeros_like(scores)
    match head:
        case "yolov5":
            return {"predictions": np.column_stack([centres, ones, scores, none, none])[None]}
        case "yolov8":
            return {"predictions": np.column_stack([centres, scores, none, none]).T[None]}
        case "yolov10":
            return {"predictions": np.column_stack([corners, scores, none])[None]}
        case "decoded":
            return {"boxes": corners[None], "scores": scores[None], "class_ids": np.zeros((1, MANY), np.int32)}
    maps: Arrays = {name: np.zeros((1, n, 200, 200), np.float32) for name, n in (("scale", 2), ("offset", 2))}
    return {"heat": scores.reshape(1, 1, 200, 200), "points": np.zeros((1, 10, 200, 200), np.float32), **maps}


@pytest.mark.parametrize("head", ["yolov5", "yolov8", "yolov10", "decoded", "centerface"])
def test_heads_give_the_best_candidates_only(head: str) -> None:
    keys: dict[str, Any] = {"class_id_type": "INT32"} if head == "decoded" else {}
    plugin = make("detect", LABELS, head=head, **keys)
    assert isinstance(plugin, DetectPostprocessor)
    found = plugin._head.candidates({name: array[0] for name, array in many(head).items()}, 0.0)
    assert len(found.scores) == len(found.boxes) == len(found.landmarks) == MOST_CANDIDATES
    assert found.scores.min() > 0.5 + 0.4 * (1 - MOST_CANDIDATES / MANY) - 1e-3
    out = plugin.run({**many(head), **meta()}, EVERYTHING | {"top_k": 1000})
    assert out["count"].max() <= 1000
    if head != "centerface":
        assert out["boxes"].tolist() == [[ON_PHOTO]]


def test_a_claimed_size_takes_no_memory() -> None:
    rows = np.array([[[*BOX, 0.9, 1]]], np.float32)
    inputs = {"predictions": rows, **meta(size=(2**31 - 1, 2**31 - 1))}
    with peak_memory() as peak:
        assert make("detect", LABELS, head="yolov10").run(inputs, {})["count"].tolist() == [1]
    assert peak() < 1 << 20
