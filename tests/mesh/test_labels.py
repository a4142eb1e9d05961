"""The main job: a photo goes in, labels come out, through four processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from stagemesh import Client
from tests.mesh.processes import ROOT, Mesh

pytestmark = pytest.mark.xdist_group("mesh")

CHINA = ROOT / "tests" / "photos" / "china.jpg"


@pytest.mark.parametrize(
    ("photo", "class_id", "label", "score"),
    [
        ("coffee.png", 967, b"espresso", 0.946),
        ("chelsea.png", 282, b"tiger cat", 0.418),
        ("astronaut.png", 560, b"football helmet", 0.165),
        (CHINA, 698, b"palace", 0.199),
    ],
)
def test_reference_labels(mesh: Mesh, photos: Path, photo: str, class_id: int, label: bytes, score: float) -> None:
    with Client(mesh.target) as client:
        result = client.infer_image("classify", photos / photo)
    assert result["class_ids"][0, 0] == class_id
    assert result["labels"][0, 0] == label
    assert result["scores"][0, 0] == pytest.approx(score, abs=0.01)


def test_several_photos_in_one_request_get_their_own_labels(mesh: Mesh, photos: Path) -> None:
    with Client(mesh.target) as client:
        before = client.statistics("classify")[0].inference_count
        result = client.infer_image("classify", [photos / "coffee.png", photos / "chelsea.png"])
        after = client.statistics("classify")[0].inference_count
    assert result["class_ids"][:, 0].tolist() == [967, 282]
    assert after == before + 2


def test_top_k_of_a_request(mesh: Mesh, photos: Path) -> None:
    with Client(mesh.target) as client:
        result = client.infer_image("classify", photos / "coffee.png", parameters={"top_k": 2})
    assert result["labels"].shape == (1, 2)
