"""What an engine file depends on besides the network: the device, the processor and the torch that runs it."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from stagemesh.errors import ConfigError

CPUINFO = Path("/proc/cpuinfo")

_VECTOR_FLAGS = re.compile(
    r"(sse|ssse|avx|amx|fma|f16c|bmi|popcnt|lzcnt|abm|movbe|adx|aes|vaes|pclmul|vpclmul|gfni|sha|asimd|sve|neon|bf16|i8mm)"
    r"[0-9a-z_]*|fp|fphp"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where an engine was built, or is to run: `cpu_flags` are the processor's instruction sets, sorted."""

    device: str
    capability: str
    architecture: str
    cpu_flags: tuple[str, ...]
    torch_version: str

    @classmethod
    def of(cls, device: torch.device) -> Machine:
        """This machine, seen from `device`."""
        cuda = device.type == "cuda"
        return cls(
            device=torch.cuda.get_device_name(device) if cuda else device.type,
            capability="sm_{}{}".format(*torch.cuda.get_device_capability(device)) if cuda else "",
            architecture=platform.machine(),
            cpu_flags=instruction_sets(CPUINFO.read_text() if CPUINFO.is_file() else ""),
            torch_version=torch.__version__,
        )


def instruction_sets(cpuinfo: str) -> tuple[str, ...]:
    """The vector and bit instruction sets that the first processor of /proc/cpuinfo lists, sorted."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return tuple(sorted(flag for flag in found[1].split() if _VECTOR_FLAGS.fullmatch(flag))) if found else ()


def differences(built: Machine, here: Machine) -> Iterable[str]:
    """Each reason why an engine built on `built` can't run on `here`: expected and found."""
    for name in ("device", "capability", "architecture", "torch_version"):
        expected, found = getattr(built, name), getattr(here, name)
        if expected != found:
            yield f"{name}: built for {expected!r}, found {found!r}"
    lacking = sorted(set(built.cpu_flags) - set(here.cpu_flags))
    if lacking:
        yield f"cpu_flags: built for a processor with {', '.join(lacking)}, which this one lacks"


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type of `fp32`, `fp16` or `bf16`. Raises ConfigError for a half type where the device is no GPU."""
    known = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if name not in known:
        raise ConfigError(f"precision: expected one of {', '.join(known)}, found {name!r}")
    if name != "fp32" and device.type == "cpu":
        raise ConfigError(f"precision {name!r}: expected a GPU for it, found device '{device.type}'; use fp32")
    return known[name]
