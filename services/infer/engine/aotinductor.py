"""The backend AOTInductor: a network compiled ahead of time into a package of native code.

Loading a package unpickles nothing, and it is code all the same: its shared library is unpacked and loaded into the
process, which runs whatever it holds. Load only packages that you built, from a folder that only you can write.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from services.infer.engine.onnx_session import first_line
from services.infer.engine.profile import OptimizationProfile
from services.infer.engine.program import AOTINDUCTOR, BackendUnavailable

COMPILERS = ("g++", "clang++", "c++")

log = logging.getLogger(__name__)


def find_compiler() -> str:
    """The C++ compiler that a build would use. Raises BackendUnavailable where there is none."""
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else COMPILERS:
        if shutil.which(name):
            return name
    looked = f"CXX={wanted}" if wanted else ", ".join(COMPILERS)
    raise BackendUnavailable(f"a build needs a C++ compiler, and there is none here (looked for {looked})")


def compile_package(module: nn.Module, profile: OptimizationProfile, device: torch.device, path: Path) -> None:
    """Compile `module` for every shape in `profile` into the package `path`, which ends in .pt2.

    Takes tens of seconds and all cores. Raises BackendUnavailable where torch can't export or compile the module,
    or no compiler is there.
    """
    import torch._inductor

    compiler = find_compiler()
    options: dict[str, Any] = {
        "cpp.cxx": (None, compiler),
        # the thread count is that of the process that runs the engine, not of the one that builds it
        "cpp.dynamic_threads": True,
    }
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                module, tuple(profile.export_sample(device)), dynamic_shapes=profile.dynamic_shapes()
            )
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    except Exception as error:  # export traces the user's code, and compilers fail in ways of their own
        raise BackendUnavailable(f"no AOTInductor engine: {first_line(error)}") from error


class PackageProgram:
    """A loaded package. A run holds it: contexts that run at once take turns."""

    backend = AOTINDUCTOR

    def __init__(self, path: Path) -> None:
        """Load the package `path`. Raises BackendUnavailable where torch can't."""
        import torch._inductor

        try:
            self._run: Any = torch._inductor.aoti_load_package(str(path))
        except Exception as error:  # a broken package fails in zip, JSON, the linker or torch
            raise BackendUnavailable(f"torch can't load {path.name}: {first_line(error)}") from error

    def execute(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Raises RuntimeError for shapes outside those it was built for."""
        with torch.inference_mode():
            return list(self._run(*inputs))
