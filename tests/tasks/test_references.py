"""The answers that the demo models are known to give on real photos, through the mesh.

The numbers come from running each network with other software. Scores may differ by 0.01, places by 3 pixels, shares
of a mask by 0.01.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stagemesh import Client, InferResult
from tests.tasks.photos import photo

Box = tuple[float, float, float, float]
Found = tuple[str, float, Box | None]
Point = tuple[str, float, float, float]

SCORE, PIXELS, SHARE = 0.01, 3.0, 0.01
CROP = "40,390,250,910"

pytestmark = pytest.mark.xdist_group("demo-mesh")

CLASSES = {
    "coffee.png": (967, "espresso", 0.946),
    "chelsea.png": (282, "tiger cat", 0.418),
    "bus.jpg": (654, "minibus", 0.264),
    "china.jpg": (698, "palace", 0.199),
    "motorcycle_left.png": (665, "moped", 0.521),
    "zidane.jpg": (834, "suit", 0.200),
    "astronaut.png": (560, "football helmet", 0.165),
}
FACES: dict[str, list[Found]] = {
    "astronaut.png": [("face", 0.929, (181.5, 58.2, 269.9, 177.8))],
    "zidane.jpg": [
        ("face", 0.875, (911.0, 102.3, 1052.9, 277.4)),
        ("face", 0.762, (552.4, 258.2, 667.2, 433.9)),
    ],
    "bus.jpg": [
        ("face", 0.894, (113.8, 415.9, 154.2, 470.0)),
        ("face", 0.841, (270.7, 425.2, 307.7, 475.3)),
    ],
}
OBJECTS: dict[str, list[Found]] = {
    "bus.jpg": [
        ("person", 0.829, (56, 386, 227, 896)),
        ("bus", 0.775, (20, 214, 790, 751)),
        ("person", 0.599, (688, 402, 810, 878)),
        ("person", 0.529, (223, 402, 347, 847)),
        ("person", 0.469, (2, 569, 76, 868)),
    ],
    "motorcycle_left.png": [("motorcycle", 0.793, (106, 75, 688, 454))],
    "zidane.jpg": [("person", 0.785, None), ("person", 0.645, None)],
    "coffee.png": [("cup", 0.532, None)],
    "china.jpg": [],
}
SHARES: dict[str, tuple[float, Box | None]] = {
    "flower.jpg": (0.218, (168, 85, 446, 359)),
    "coffee.png": (0.476, (76, 18, 479, 390)),
    "motorcycle_left.png": (0.284, (103, 119, 683, 450)),
    "astronaut.png": (0.552, None),
    "zidane.jpg": (0.334, None),
    "bus.jpg": (0.434, None),
}
BUS_PASSENGER: list[Point] = [
    ("nose", 143, 446, 0.50),
    ("left shoulder", 162, 492, 0.90),
    ("right shoulder", 83, 487, 0.84),
    ("left hip", 153, 640, 0.82),
    ("right hip", 98, 642, 0.79),
    ("left knee", 169, 748, 0.85),
    ("right knee", 88, 758, 0.79),
    ("left ankle", 187, 857, 0.78),
    ("right ankle", 72, 854, 0.89),
]
ASTRONAUT: list[Point] = [
    ("nose", 221, 120, 0.53),
    ("left eye", 246, 100, 0.71),
    ("right eye", 204, 98, 0.74),
    ("left shoulder", 319, 274, 0.75),
    ("right shoulder", 105, 258, 0.53),
]
OUT_OF_FRAME = ("left knee", "right knee", "left ankle", "right ankle")


@pytest.mark.parametrize("name", CLASSES)
def test_classify(client: Client, name: str) -> None:
    result = client.infer_image("classify", photo(name))
    class_id, label, score = CLASSES[name]
    assert (int(result["class_ids"][0, 0]), result["labels"][0, 0].decode()) == (class_id, label)
    assert result["scores"][0, 0] == pytest.approx(score, abs=SCORE)


def test_the_cats_second_class(client: Client) -> None:
    result = client.infer_image("classify", photo("chelsea.png"))
    assert result["labels"][0, 1] == b"Egyptian cat"
    assert result["scores"][0, 1] == pytest.approx(0.332, abs=SCORE)


@pytest.mark.parametrize("name", FACES)
def test_faces(client: Client, name: str) -> None:
    check_found(client.infer_image("faces", photo(name)), FACES[name])


def test_landmarks_of_a_face(client: Client) -> None:
    result = client.infer_image("faces", photo("astronaut.png"))
    expected = [(203, 102), (247, 105), (223, 125), (203, 142), (241, 144)]
    np.testing.assert_allclose(result["landmarks"], [[expected]], atol=PIXELS)


@pytest.mark.parametrize("name", OBJECTS)
def test_detect(client: Client, name: str) -> None:
    check_found(client.infer_image("detect", photo(name)), OBJECTS[name])


def test_two_photos_in_one_request(client: Client) -> None:
    pair = ["bus.jpg", "motorcycle_left.png"]
    together = client.infer_image("detect", [photo(name) for name in pair])
    for row, name in enumerate(pair):
        alone, count = client.infer_image("detect", photo(name)), len(OBJECTS[name])
        assert together["count"][row] == alone["count"][0] == count
        for key, tolerance in (("scores", 1e-4), ("boxes", 0.05)):
            np.testing.assert_allclose(together[key][row, :count], alone[key][0, :count], rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("name", SHARES)
def test_segment(client: Client, name: str) -> None:
    result = client.infer_image("segment", photo(name))
    share, box = SHARES[name]
    mask = result["mask"][0]
    assert mask.shape == tuple(result["size"][0])
    assert mask.mean() == pytest.approx(share, abs=SHARE)
    assert result["shares"][0].tolist() == [pytest.approx(mask.mean())]
    if box:
        np.testing.assert_allclose(result["boxes"][0, 0], box, atol=PIXELS)


def test_pose_of_a_crop(client: Client) -> None:
    result = client.infer_image("pose", photo("bus.jpg"), parameters={"crop": CROP})
    check_points(result, BUS_PASSENGER)


def test_pose_of_a_whole_photo(client: Client) -> None:
    result = client.infer_image("pose", photo("astronaut.png"))
    check_points(result, ASTRONAUT)
    scores = dict(zip(names(result["labels"][0, 0]), result["scores"][0, 0], strict=True))
    assert all(scores[name] < 0.1 for name in OUT_OF_FRAME)


def check_found(result: InferResult, expected: list[Found]) -> None:
    assert names(result["labels"][0]) == [label for label, _, _ in expected]
    assert result["count"].tolist() == [len(expected)]
    for score, box, (_, wanted_score, wanted_box) in zip(
        result["scores"][0], result["boxes"][0], expected, strict=True
    ):
        assert score == pytest.approx(wanted_score, abs=SCORE)
        if wanted_box:
            np.testing.assert_allclose(box, wanted_box, atol=PIXELS)


def check_points(result: InferResult, expected: list[Point]) -> None:
    index = {name: at for at, name in enumerate(names(result["labels"][0, 0]))}
    for name, x, y, score in expected:
        np.testing.assert_allclose(result["keypoints"][0, 0, index[name]], (x, y), atol=PIXELS, err_msg=name)
        assert result["scores"][0, 0, index[name]] == pytest.approx(score, abs=SCORE), name


def names(labels: NDArray[np.object_]) -> list[str]:
    return [label.decode() for label in labels]
