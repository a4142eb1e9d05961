"""Request parameters that override the options of a plug-in."""

from __future__ import annotations

from collections.abc import Mapping

from stagemesh.errors import InvalidInput
from stagemesh.oip.tensors import Parameter


def count(parameters: Mapping[str, Parameter], name: str, default: int, high: int) -> int:
    """The integer `name` from 1 to `high`, or `default` where the request has none. Raises InvalidInput."""
    value = parameters.get(name, default)
    if name in parameters and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high):
        raise InvalidInput(f"parameter '{name}': expected an integer from 1 to {high}, found {value!r}")
    return int(value)


def share(parameters: Mapping[str, Parameter], name: str, default: float) -> float:
    """The number `name` from 0 to 1, or `default` where the request has none. Raises InvalidInput."""
    value = parameters.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise InvalidInput(f"parameter '{name}': expected a number from 0 to 1, found {value!r}")
    return float(value)
