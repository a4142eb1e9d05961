"""The plug-in `pose` on encoded keypoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.postprocess.keypoints import peaks
from stagemesh.errors import ConfigError, InvalidInput
from tests.postprocess.conftest import make, meta, peak_memory

LABELS = ("nose", "tail")
DOUBLE = (2, 0, 10, 0, 0.5, 5)


def bell(height: int, width: int, x: float, y: float) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:height, :width]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 4).astype(np.float32)


def test_decoded_fractions_come_back_to_the_photo() -> None:
    plugin = make("pose", LABELS, head="decoded", order="yx", size=[64, 128])
    raw = np.array([[[[0.5, 0.25, 0.9], [0.25, 0.75, 0.2]]]], np.float32)
    out = plugin.run({"keypoints": raw, **meta(DOUBLE)}, {})
    assert out["keypoints"].tolist() == [[[[2 * 31.5 + 10, 31.5 / 2 + 5], [2 * 95.5 + 10, 15.5 / 2 + 5]]]]
    assert out["visible"].tolist() == [[[True, False]]]
    assert out["labels"].tolist() == [[[b"nose", b"tail"]]]
    assert out["person_scores"][0].tolist() == [pytest.approx(0.55)]
    assert plugin.run({"keypoints": raw, **meta()}, {"score_threshold": 0.1})["visible"].all()


def test_decoded_pixels_are_taken_as_they_are() -> None:
    raw = np.array([[[[3, 4, 0.9]], [[5, 6, 0.9]]]], np.float32)
    out = make("pose", head="decoded").run({"keypoints": raw, **meta()}, {})
    assert out["keypoints"].tolist() == [[[[3, 4]], [[5, 6]]]]
    assert out["labels"].tolist() == [[[b"0"], [b"0"]]]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_heat_maps(layout: str) -> None:
    maps = np.stack([bell(16, 24, 5.3, 9.8), bell(16, 24, 20.0, 2.0)])[None]
    if layout == "NHWC":
        maps = maps.transpose(0, 2, 3, 1)
    out = make("pose", LABELS, head="heatmap", layout=layout).run({"heatmaps": maps, **meta()}, {})
    assert out["keypoints"].shape == (1, 1, 2, 2)
    np.testing.assert_allclose(out["keypoints"][0, 0], [[4 * 5.75 - 0.5, 4 * 10.25 - 0.5], [81.5, 9.5]])
    assert out["scores"][0, 0, 1] == pytest.approx(1)


def test_peaks_at_the_edges_do_not_lean() -> None:
    points, heights = peaks(np.stack([bell(5, 7, 0, 4), bell(5, 7, 6, 0), np.zeros((5, 7), np.float32)]))
    assert points.tolist() == [[0, 4], [6, 0], [0, 0]]
    assert heights.tolist() == [1, 1, 0]
    assert peaks(np.ones((2, 1, 1), np.float32))[0].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"head": "heatmap", "order": "yx"}, "key 'order': the head 'heatmap' has no such key"),
        ({"head": "decoded", "stride": 8.0}, "key 'stride': the head 'decoded' has no such key"),
        ({"head": "decoded", "size": [0, 8]}, "key 'size': expected 1 to 16384, found 0"),
    ],
)
def test_bad_keys(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("pose", **keys)


def test_bad_inputs() -> None:
    with pytest.raises(InvalidInput, match=r"input 'keypoints': expected finite numbers, found inf at \[0, 0, 0, 1\]"):
        make("pose", head="decoded").run({"keypoints": np.array([[[[1, np.inf, 1]]]], np.float32), **meta()}, {})
    with pytest.raises(InvalidInput, match="input 'heatmaps': expected maps with values"):
        make("pose", head="heatmap").run({"heatmaps": np.ones((1, 2, 0, 3), np.float32), **meta()}, {})
    with pytest.raises(InvalidInput, match="input 'keypoints': expected one or more keypoints"):
        make("pose", head="decoded").run({"keypoints": np.ones((1, 1, 0, 3), np.float32), **meta()}, {})
    with pytest.raises(InvalidInput, match="expected at most 1,000,000 keypoints in a request, found 1,000,002"):
        make("pose", head="decoded").run({"keypoints": np.ones((1, 500_001, 2, 3), np.float32), **meta()}, {})


def test_a_claimed_size_takes_no_memory() -> None:
    inputs = {"keypoints": np.ones((1, 1, 2, 3), np.float32), **meta(size=(2**31 - 1, 2**31 - 1))}
    with peak_memory() as peak:
        make("pose", head="decoded").run(inputs, {})
    assert peak() < 1 << 20
