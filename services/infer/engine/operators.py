"""The operators every graph can use."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

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
from stagemesh.errors import ConfigError
from stagemesh.plugins import load_from_file

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


ENTRY_POINTS = "stagemesh.operators"


def standard_registry() -> OperatorRegistry:
    """A new registry: the operators of the standard domain, and those of installed packages.

    A package adds its own by an entry point of the group `stagemesh.operators` that names an OperatorRegistry.
    Raises ConfigError for one that can't be imported or names something else.
    """
    registry = OperatorRegistry()
    for theme in _THEMES:
        registry.include(theme.operators)
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            found = entry.load()
        except Exception as error:  # foreign code may raise anything while it is imported
            raise ConfigError(f"operators '{entry.name}': can't import {entry.value}: {error}") from error
        _include(registry, found, f"operators '{entry.name}'")
    return registry


def registry_of(reference: str, folder: Path, where: str) -> OperatorRegistry:
    """The standard registry with that of a model's own file in front, as in "file:my_ops.py:operators".

    Raises ConfigError, starting with `where`: no such file or name, a file that fails, no OperatorRegistry.
    """
    registry = standard_registry()
    _include(registry, load_from_file(folder, reference, where), f"{where}: {reference!r}")
    return registry


def _include(registry: OperatorRegistry, found: object, where: str) -> None:
    if not isinstance(found, OperatorRegistry):
        raise ConfigError(f"{where}: expected an OperatorRegistry, found {type(found).__name__}")
    registry.include(found)
