"""The device networks run on, and how arrays get there and back."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import torch

from stagemesh.errors import ConfigError

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
    torch.set_num_threads(count or len(os.sched_getaffinity(0)))


def upload(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """A uint8 tensor on `device` with the values of `array`, which may be read-only; pinned for CUDA."""
    # the wire's read-only bytes become torch's own memory: a copy of 5 us an image, where a view would warn
    host = torch.empty(array.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.copyto(host.numpy(), array)
    return host.to(device, non_blocking=True)


def download(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    """The values of `tensor` on the host as C-contiguous float32; no copy where it is that already."""
    host: npt.NDArray[np.float32] = tensor.to("cpu", torch.float32).contiguous().numpy()
    return host
