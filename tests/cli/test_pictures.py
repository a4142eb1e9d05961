"""`stagemesh infer -o` and `--out-dir`, and request parameters typed by a user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from stagemesh.cli.findings import findings
from stagemesh.cli.main import main
from stagemesh.cli.pictures import _names
from tests.draw.test_answers import boxes
from tests.mesh.processes import ROOT

Capture = pytest.CaptureFixture[str]
COFFEE = str(ROOT / "examples" / "photos" / "coffee.png")
ROCKET = str(ROOT / "examples" / "photos" / "rocket.jpg")


def test_one_picture(server: str, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "drawn.jpg"
    assert main(["infer", "labels", COFFEE, "--target", server, "-o", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"drawn: {out}"
    with Image.open(out) as drawn, Image.open(COFFEE) as photo:
        assert drawn.size == photo.size
        assert drawn.getpixel((1, 1)) != photo.getpixel((1, 1)), "the labels are in the corner"


def test_a_folder_of_pictures(server: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "coffee.jpg").write_bytes(Path(ROCKET).read_bytes())
    out = tmp_path / "new" / "folder"
    photos = [COFFEE, str(tmp_path / "coffee.jpg"), ROCKET]
    assert main(["infer", "labels", *photos, "--target", server, "--out-dir", str(out), "--json"]) == 0
    pictures = [json.loads(line)["picture"] for line in capsys.readouterr().out.splitlines()]
    assert pictures == [str(out / name) for name in ("coffee.png", "coffee-2.png", "rocket.png")]
    with Image.open(pictures[1]) as drawn, Image.open(ROCKET) as photo:
        assert drawn.size == photo.size


def test_names_are_never_used_twice() -> None:
    photos = [Path("a/x.png"), Path("b/x.jpg"), Path("x-2.png"), Path("c/x.bmp")]
    assert _names(photos) == ["x.png", "x-2.png", "x-2-2.png", "x-3.png"]


def test_what_is_no_photo_fails_its_file_only(server: str, tmp_path: Path, capsys: Capture) -> None:
    text = tmp_path / "text.png"
    text.write_text("text")
    assert main(["infer", "labels", str(text), COFFEE, "--target", server, "--out-dir", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert f"stagemesh: {text}: expected a photo to draw on" in captured.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["coffee.png"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([COFFEE, "-o", "x.txt"], "expected a picture file ending in .png"),
        ([COFFEE, ROCKET, "-o", "x.png"], "-o takes the picture of one photo, found 2 photos: use --out-dir"),
        ([COFFEE, "--out-dir", COFFEE], "--out-dir: expected a folder that can be made"),
    ],
)
def test_wrong_places_end_with_2(server: str, flags: list[str], expected: str, capsys: Capture) -> None:
    assert main(["infer", "labels", *flags, "--target", server]) == 2
    assert expected in capsys.readouterr().err


def test_parameters_are_typed(server: str, capsys: Capture) -> None:
    assert main(["infer", "labels", COFFEE, "--target", server, "--json", "-p", "top_k=1"]) == 0
    assert len(json.loads(capsys.readouterr().out)["labels"]) == 1
    assert main(["infer", "labels", COFFEE, "--target", server, "--json", "-p", "fail=now"]) == 1
    with pytest.raises(SystemExit) as raised:
        main(["infer", "labels", COFFEE, "-p", "top_k"])
    assert raised.value.code == 2
    assert "expected NAME=VALUE, found 'top_k'" in capsys.readouterr().err


def test_findings_of_a_detection() -> None:
    found = findings(boxes())
    assert found
    assert found.noun == "detections"
    assert found.items == [{"label": "bee", "class_id": 1, "score": 0.9, "box": [99.5, 199.5, 299.5, 399.5]}]
