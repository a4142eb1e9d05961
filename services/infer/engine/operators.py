"""The operators every graph can use."""

from __future__ import annotations

from services.infer.engine import (
    ops_activation,
    ops_conv,
    ops_gather,
    ops_math,
    ops_norm,
    ops_pool,
    ops_quantise,
    ops_reduce,
    ops_resize,
    ops_shape,
)
from services.infer.engine.registry import OperatorRegistry

_THEMES = (
    ops_activation,
    ops_conv,
    ops_gather,
    ops_math,
    ops_norm,
    ops_pool,
    ops_quantise,
    ops_reduce,
    ops_resize,
    ops_shape,
)


def standard_registry() -> OperatorRegistry:
    """A new registry with all operators of the standard domain; more can be registered on it."""
    registry = OperatorRegistry()
    for theme in _THEMES:
        registry.include(theme.operators)
    return registry
