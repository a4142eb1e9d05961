"""A network as the builder takes it: a module, what identifies it, and how it becomes ONNX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from services.infer.engine.onnx_session import trace_onnx
from services.infer.engine.profile import OptimizationProfile

WriteOnnx = Callable[[OptimizationProfile, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDefinition:
    """`make_module` gives the module: it takes tensors by position and gives a tuple, one for each name in `outputs`.

    It is in eval mode, on its device, in its precision; it is made when it is needed, which it is not where an engine
    was built before. `source` is the SHA-256 of all that shapes it.
    `write_onnx`, where the network is more than Python that can be traced, takes the place of tracing, and raises
    BackendUnavailable where it can't.
    """

    name: str
    source: str
    make_module: Callable[[], nn.Module]
    outputs: tuple[str, ...]
    write_onnx: WriteOnnx | None = None

    def save_onnx(self, profile: OptimizationProfile, path: Path) -> None:
        """Write the network as ONNX to `path`. Raises BackendUnavailable where that can't be done."""
        if self.write_onnx is not None:
            self.write_onnx(profile, path)
            return
        trace_onnx(self.make_module(), profile, self.outputs, path)
