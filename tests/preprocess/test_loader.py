"""How many threads the preprocess service takes."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import pytest

from services.preprocess.loader import loader
from services.preprocess.settings import PreprocessSettings
from stagemesh.machine import cores


@pytest.fixture(autouse=True)
def opencv_with_threads() -> Iterator[None]:
    """As OpenCV is where nobody has capped it on a machine of several cores."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    yield
    cv2.setNumThreads(before)


def test_opencv_keeps_to_one_thread_whatever_the_plugin() -> None:
    assert cv2.getNumThreads() == 3
    loader(PreprocessSettings())
    assert cv2.getNumThreads() == 1


@pytest.mark.parametrize(("workers", "instances"), [(0, cores()), (3, 3)])
def test_one_request_a_worker(workers: int, instances: int) -> None:
    assert loader(PreprocessSettings(workers=workers)).instances == instances
