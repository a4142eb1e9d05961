"""The torch module of a state dict: built by the model's own Python file, filled with the weights."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from stagemesh.errors import ConfigError
from stagemesh.plugins import load_from_file, own_frame

MOST_KEYS = 8


def build_module(arch: str, folder: Path, where: str) -> nn.Module:
    """The module that the factory `arch`, as in "file:net.py:factory", of the model's folder returns.

    Raises ConfigError, starting with `where`: no such file or factory, one that fails (with file and line),
    one that returns something else.
    """
    factory = load_from_file(folder, arch, where)
    if not callable(factory):
        raise ConfigError(f"{where}: expected a function {arch!r}, found {type(factory).__name__}")
    try:
        module = factory()
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"{where}: {arch!r} failed: {describe_failure(error, folder)}") from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{where}: expected a torch.nn.Module of {arch!r}, found {type(module).__name__}")
    return module


def load_state(module: nn.Module, weights: Path, where: str) -> None:
    """Fill `module` with the state dict in the file `weights`, of which every key must fit.

    The file is read as tensors only: nothing else in it is unpickled.
    Raises ConfigError, starting with `where`: no state dict, keys missing or unexpected, other shapes.
    """
    state, own = _read_state(weights, where), module.state_dict()
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [
            f"{key} (expected {list(own[key].shape)}, found {list(state[key].shape)})"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
    }
    texts = [f"{len(keys)} {kind}: {_first_of(keys)}" for kind, keys in problems.items() if keys]
    if texts:
        counts = f"expected {len(own)} keys, found {len(state)}"
        raise ConfigError(f"{where}: {weights.name} does not fit its arch, {counts}; {'; '.join(texts)}")
    module.load_state_dict(state)


def describe_failure(error: BaseException, folder: Path) -> str:
    """Type, place and first line of an error; the place is the innermost line in `folder`, if any."""
    frame = own_frame(error, folder.resolve())
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__} at {place}: {str(error).strip().partition(chr(10))[0]}"


def _read_state(weights: Path, where: str) -> Mapping[str, torch.Tensor]:
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        reason = describe_failure(error, weights.parent)
        raise ConfigError(f"{where}: expected a torch state dict in {weights.name}: {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        found = type(state).__name__
        raise ConfigError(f"{where}: expected a state dict of tensors in {weights.name}, found a {found}")
    return state


def _first_of(keys: Sequence[str]) -> str:
    more = len(keys) - MOST_KEYS
    return ", ".join(keys[:MOST_KEYS]) + (f" and {more} more" if more > 0 else "")
