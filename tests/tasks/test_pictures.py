"""What a user sees of the demo models: the command's tables, JSON and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stagemesh.cli.main import main
from tests.tasks.photos import photo

pytestmark = pytest.mark.xdist_group("demo-mesh")


@pytest.mark.parametrize(
    ("model", "noun", "keys"),
    [
        ("faces", "detections", ["label", "class_id", "score", "box", "landmarks"]),
        ("detect", "detections", ["label", "class_id", "score", "box"]),
        ("segment", "regions", ["label", "class_id", "share", "box"]),
        ("pose", "keypoints", ["person", "label", "score", "visible", "point"]),
    ],
)
def test_json_and_picture(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, noun: str, keys: list[str]
) -> None:
    source, out = photo("astronaut.png"), tmp_path / "out.png"
    assert main(["infer", model, str(source), "--target", target, "--json", "-o", str(out)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer[noun][0]) == keys
    with Image.open(out) as drawn, Image.open(source) as original:
        changed = (np.asarray(drawn) != np.asarray(original.convert("RGB"))).any(axis=2)
    assert 0.002 < changed.mean() < 0.9


def test_the_table_of_a_detection(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "detect", str(photo("bus.jpg")), "--target", target, "-p", "score_threshold=0.7"]) == 0
    lines = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line[:2] for line in lines] == [["label", "class_id"], ["person", "0"], ["bus", "5"]]


def test_nothing_found_is_said(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "detect", str(photo("china.jpg")), "--target", target]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no detections"
