"""Devices and thread counts."""

from __future__ import annotations

import os

import pytest
import torch

from services.infer.device import cap_threads, select_device
from stagemesh.errors import ConfigError

CPU = torch.device("cpu")


def test_cuda_without_cuda_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"device 'cuda': expected a CUDA device, torch .* finds none"):
        select_device("cuda")
    assert select_device("auto") == select_device("cpu") == CPU


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert select_device("auto").type == select_device("cuda").type == "cuda"
    assert select_device("cpu") == CPU


def test_another_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of auto, cpu, cuda, found 'tpu'"):
        select_device("tpu")


def test_tf32_is_off() -> None:
    select_device("auto")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_threads_are_capped() -> None:
    before = torch.get_num_threads()
    try:
        cap_threads(1)
        assert torch.get_num_threads() == 1
        cap_threads(0)
        assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    finally:
        torch.set_num_threads(before)
