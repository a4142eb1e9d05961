"""The check that what came from a network, or from any other caller, is numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagemesh.errors import InvalidInput


def check_finite(name: str, array: NDArray[Any]) -> None:
    """Raise InvalidInput where the input `name` holds NaN or infinities, saying where the first one stands."""
    finite = np.isfinite(array)
    if finite.all():
        return
    at = np.unravel_index(int(np.argmin(finite)), array.shape)
    place = ", ".join(str(index) for index in at)
    raise InvalidInput(
        f"input '{name}': expected finite numbers, found {array[at]} at [{place}]",
        reason="NOT_FINITE",
    )
