"""Choosing a backend by trying: outputs compared with the eager ones, then times, turn by turn."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from services.infer.engine.context import Array, ExecutionContext
from services.infer.engine.manifest import Tactic
from services.infer.engine.onnx_session import first_line
from services.infer.engine.profile import OptimizationProfile
from services.infer.engine.program import EAGER, BackendUnavailable

TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 5e-2}
NEAR_BEST = 1.04
"""One backend runs all batch sizes if at none it takes longer than the best by this factor."""
HOPELESS = 2.0
"""A backend this many times slower than the best is timed no further."""
MOST_ROUNDS = 15
MOST_SECONDS = 1.5
"""What timing a backend at one batch size may take, save that it is run once whatever that takes."""

CPU = torch.device("cpu")


def measure(contexts: Mapping[str, ExecutionContext], profile: OptimizationProfile, dtype: str) -> Tactic:
    """Compare each backend's context with the one of `eager`, time those that agree, and choose.

    Raises what the eager network raises: then there is nothing to serve.
    """
    errors, failures = {EAGER: 0.0}, {}
    expected = eager_outputs(contexts[EAGER], profile) if len(contexts) > 1 else {}
    for name in contexts.keys() - {EAGER}:
        try:
            errors[name] = check_agreement(expected, contexts[name], profile, dtype)
        except BackendUnavailable as error:
            failures[name] = str(error)
    running = {name: context for name, context in contexts.items() if name not in failures}
    milliseconds: dict[str, dict[str, float]] = {name: {} for name in running}
    for batch in profile.batches():
        if len(running) == 1 and all(_takes_long(milliseconds[name], batch) for name in running):
            break
        taken = _times(running, profile, batch)
        for name, values in taken.items():
            milliseconds[name][str(batch)] = round(statistics.median(values), 3)
        running = {name: running[name] for name in _hopeful(taken)}
    return Tactic(choice=choose(milliseconds), milliseconds=milliseconds, errors=errors, failures=failures)


def _takes_long(times: Mapping[str, float], batch: int) -> bool:
    """Whether a run may take more than MOST_SECONDS, going by those of smaller batches."""
    return any(value * batch / int(size) > MOST_SECONDS * 1e3 for size, value in times.items())


Outputs = Mapping[int, Sequence[Array]]


def eager_outputs(eager: ExecutionContext, profile: OptimizationProfile) -> Outputs:
    """What the eager network gives for the inputs that others are compared on, by batch size."""
    # an export that lost the batch dimension passes at the size it was traced with, and nowhere else
    return {batch: eager.enqueue(_inputs(profile, batch)) for batch in sorted({1, min(3, profile.max_batch)})}


def check_agreement(expected: Outputs, other: ExecutionContext, profile: OptimizationProfile, dtype: str) -> float:
    """The largest deviation of `other` from what the eager network gives.

    Raises BackendUnavailable where it is above the tolerance or `other` fails.
    """
    worst = 0.0
    for batch, outputs in expected.items():
        try:
            worst = max(worst, deviation(outputs, other.enqueue(_inputs(profile, batch))))
        except Exception as error:  # a backend may fail in any way; then it is no candidate
            raise BackendUnavailable(f"it fails with a batch of {batch}: {first_line(error)}") from error
    if not worst <= TOLERANCE[dtype]:
        raise BackendUnavailable(f"its outputs differ from the eager ones by {worst:.1e}, relative to the largest")
    return worst


def choose(milliseconds: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """By batch size the backend to run: one for all where that is near the best everywhere, else the best of each.

    A backend that was dropped at a size, being hopeless, is not chosen there.
    """
    sizes = {size: None for times in milliseconds.values() for size in times}
    best = {
        size: min(milliseconds, key=lambda name, size=size: milliseconds[name].get(size, math.inf))  # type: ignore[misc]
        for size in sizes
    }

    def loss(name: str) -> float:
        times = milliseconds[name]
        return max(times.get(size, math.inf) / milliseconds[best[size]][size] for size in sizes)

    one = min(milliseconds, key=loss)
    return dict.fromkeys(sizes, one) if loss(one) <= NEAR_BEST else best


def deviation(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """The largest difference of any output, relative to the largest finite value expected of it.

    Infinite where number or shape of the outputs differ, or where one has a NaN or infinity the other lacks.
    """
    if [array.shape for array in expected] != [array.shape for array in found]:
        return float("inf")
    return max((_difference(a, b) for a, b in zip(expected, found, strict=True)), default=0.0)


def _difference(expected: Array, found: Array) -> float:
    a, b = (np.asarray(array, np.float64) for array in (expected, found))
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(b[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.abs(a[finite]).max()), 1e-6)
    return float(np.abs(a[finite] - b[finite]).max()) / scale


def _inputs(profile: OptimizationProfile, batch: int) -> list[npt.NDArray[np.generic]]:
    return [tensor.numpy() for tensor in profile.sample(batch, CPU)]


def _times(
    contexts: Mapping[str, ExecutionContext], profile: OptimizationProfile, batch: int
) -> dict[str, list[float]]:
    """Milliseconds of each run, turn by turn; the hopeless, the slow and a lonely rest are soon done.

    Where there is time for a second run the first doesn't count: memory and plans for a batch size are made in it.
    """
    inputs = _inputs(profile, batch)
    taken: dict[str, list[float]] = {name: [] for name in contexts}
    running = list(contexts)
    for rounds in range(MOST_ROUNDS):
        for name in running:
            started = time.perf_counter()
            contexts[name].enqueue(inputs)
            taken[name].append((time.perf_counter() - started) * 1e3)
        running = [name for name in (_hopeful(taken) if rounds else running) if _has_time(taken[name])]
        if len(running) < 2:
            break
    return {name: values[1:] or values for name, values in taken.items()}


def _has_time(taken: Sequence[float]) -> bool:
    """Whether one more run would end within MOST_SECONDS."""
    return sum(taken) + taken[-1] <= MOST_SECONDS * 1e3


def _hopeful(taken: Mapping[str, Sequence[float]]) -> list[str]:
    best = min(min(values) for values in taken.values())
    return [name for name, values in taken.items() if min(values) < HOPELESS * best]
