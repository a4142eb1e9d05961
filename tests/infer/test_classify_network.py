"""The demo network with its published weights: reference outputs, batches, threads."""

from __future__ import annotations

import importlib.util
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch.nn import functional

from services.infer.network import Network

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "examples" / "photos"
REFERENCE = {"coffee.png": (967, 0.946), "chelsea.png": (282, 0.418), "astronaut.png": (560, 0.165)}

Pixels = npt.NDArray[np.uint8]


def model_image(name: str) -> Pixels:
    """The photo as the network was evaluated on it: 224 of 256 from the centre, cubic, RGB."""
    photo = np.asarray(Image.open(PHOTOS / name).convert("RGB"))
    height, width = photo.shape[:2]
    side = int(224 / 256 * min(height, width))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    crop = photo[top : top + side, left : left + side]
    return np.asarray(cv2.resize(crop, (224, 224), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture(scope="module")
def batch() -> Pixels:
    images = np.stack([model_image(name) for name in REFERENCE])
    images.setflags(write=False)
    return images


def logits(network: Network, image: Pixels) -> npt.NDArray[np.float32]:
    return network.run({"image": image}, {})["logits"]


def test_reference_probabilities_hold(classify: Network, batch: Pixels) -> None:
    values = torch.from_numpy(logits(classify, batch)).softmax(1)
    for row, (label, probability) in zip(values, REFERENCE.values(), strict=True):
        assert int(row.argmax()) == label
        assert float(row[label]) == pytest.approx(probability, abs=0.001)


def test_a_sample_does_not_depend_on_its_batch(classify: Network, batch: Pixels) -> None:
    together = logits(classify, batch)
    for i in range(len(batch)):
        np.testing.assert_allclose(logits(classify, batch[i : i + 1])[0], together[i], atol=1e-4)


def test_the_signature_fixes_the_size_and_names_the_outputs(classify: Network) -> None:
    signature = classify.signature()
    assert [(s.name, s.datatype, s.shape) for s in signature.inputs] == [("image", "UINT8", (-1, 224, 224, 3))]
    assert [(s.name, s.datatype, s.shape) for s in signature.outputs] == [("logits", "FP32", (-1, 1000))]


def test_read_only_input_gives_plain_float32_and_no_warning(classify: Network, batch: Pixels) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = logits(classify, batch)
    assert output.dtype == np.float32
    assert output.flags.c_contiguous
    assert not batch.flags.writeable


def test_threads_share_a_network(classify: Network, batch: Pixels) -> None:
    classify.warm_up([1])
    expected = [logits(classify, batch[i : i + 1]) for i in range(3)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: logits(classify, batch[k % 3 : k % 3 + 1]), range(24)))
    for k, output in enumerate(found):
        np.testing.assert_allclose(output, expected[k % 3], atol=1e-4)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (6, 5), (1, 2)])
def test_same_padding_is_that_of_tensorflow(kernel: int, stride: int, shape: tuple[int, int]) -> None:
    spec = importlib.util.spec_from_file_location("lite", ROOT / "models" / "classify" / "efficientnet_lite.py")
    assert spec is not None
    assert spec.loader is not None
    lite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lite)
    conv = lite.SameConv2d(2, 3, kernel=kernel, stride=stride)
    image = torch.randn(1, 2, *shape)
    sides: list[int] = []
    for side in reversed(shape):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        sides += [total // 2, total - total // 2]
    expected = functional.conv2d(functional.pad(image, sides), conv.weight, stride=stride)
    torch.testing.assert_close(conv(image), expected)
