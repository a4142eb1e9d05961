"""From logits to probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities [N, C] of logits [N, C]; no overflow for any finite logit."""
    with np.errstate(over="ignore"):  # a difference too large for float32 is minus infinity, hence probability 0
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) of logits of any shape, without overflow."""
    half = np.float32(0.5)
    result: NDArray[np.float32] = half * np.tanh(half * logits) + half
    return result
