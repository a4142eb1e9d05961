"""Timing candidates: what it costs is bounded, whatever they cost."""

from __future__ import annotations

import time
from collections import Counter
from typing import cast

import numpy as np
import pytest

from services.infer.engine import tactics
from services.infer.engine.context import Array, ExecutionContext
from services.infer.engine.manifest import Tactic
from tests.engine_build.tiny import PROFILE


class Sleeps:
    """Takes `seconds` for each sample, and counts its runs by batch size."""

    def __init__(self, seconds: float) -> None:
        self.runs: Counter[int] = Counter()
        self._seconds = seconds

    def enqueue(self, inputs: list[Array]) -> list[Array]:
        batch = len(inputs[0])
        self.runs[batch] += 1
        time.sleep(self._seconds * batch)
        return [np.ones((batch, 2), np.float32)]


def measured(**contexts: Sleeps) -> Tactic:
    return tactics.measure({name: cast(ExecutionContext, one) for name, one in contexts.items()}, PROFILE, "fp32")


def test_a_slow_candidate_is_timed_once_and_at_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tactics, "MOST_SECONDS", 0.05)
    eager, other = Sleeps(0.06), Sleeps(0.002)
    tactic = measured(eager=eager, onnxruntime=other)
    assert eager.runs == {1: 2, 3: 1}  # compared at 1 and 3, timed at 1
    assert set(tactic.choice.values()) == {"onnxruntime"}
    assert tactic.milliseconds["onnxruntime"].keys() == {"1", "4"}


def test_one_that_is_left_is_not_timed_where_that_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tactics, "MOST_SECONDS", 0.05)
    eager, other = Sleeps(0.06), Sleeps(0.02)
    assert measured(eager=eager, onnxruntime=other).choice == {"1": "onnxruntime"}
    assert eager.runs[4] == other.runs[4] == 0


def test_close_candidates_are_timed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tactics, "MOST_SECONDS", 0.5)
    eager, other = Sleeps(0.003), Sleeps(0.002)
    measured(eager=eager, onnxruntime=other)
    for runs in (eager.runs, other.runs):
        assert runs[1] > tactics.MOST_ROUNDS / 2
        assert runs[4] > tactics.MOST_ROUNDS / 2


def test_eager_alone_is_not_compared_with_anything() -> None:
    eager = Sleeps(0)
    assert set(measured(eager=eager).choice.values()) == {"eager"}
    assert eager.runs == {1: 1, 4: 1}
