"""The device networks run on, and the threads they get."""

from __future__ import annotations

import torch

from stagemesh.errors import ConfigError
from stagemesh.machine import cores

DEVICES = ("auto", "cpu", "cuda")


def select_device(name: str) -> torch.device:
    """The device of `auto`, `cpu` or `cuda`; auto takes CUDA where there is one.

    Float32 means float32 from here on: TF32 is turned off for the process.
    Raises ConfigError: another name, or `cuda` where torch sees no CUDA device.
    """
    if name not in DEVICES:
        raise ConfigError(f"device: expected one of {', '.join(DEVICES)}, found {name!r}")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError(f"device 'cuda': expected a CUDA device, torch {torch.__version__} finds none")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def cap_threads(count: int) -> None:
    """Give each CPU computation at most `count` threads; 0 is one for each core this process may use."""
    torch.set_num_threads(count or cores())
