"""The backend onnxruntime: a network serialised to ONNX, run by a session on the CPU."""

from __future__ import annotations

import functools
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.dlpack import from_dlpack

from services.infer.engine.profile import OptimizationProfile
from services.infer.engine.program import ONNXRUNTIME, BackendUnavailable

EXPORT_OPSET = 18
CPU = torch.device("cpu")
EXTRA = "pip install 'stagemesh[onnxruntime]'"

log = logging.getLogger(__name__)


def check_available(device: torch.device) -> None:
    """Raises BackendUnavailable where onnxruntime can't be imported, or the device is none it serves here."""
    if device.type != "cpu":
        raise BackendUnavailable(f"onnxruntime runs networks on the CPU here, the device is '{device.type}'")
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        found = f"is not installed: {EXTRA}" if _is_missing("onnxruntime") else f"can't be imported: {error}"
        raise BackendUnavailable(f"onnxruntime {found}") from error


@functools.cache
def recommend(device: torch.device) -> None:
    """Say in the log, once, that networks might run faster on `device` with onnxruntime, which is not there."""
    if device.type != "cpu":
        return
    try:
        check_available(device)
    except BackendUnavailable as error:
        log.info("networks run without onnxruntime, with which many are 2 to 3 times faster on a CPU: %s", error)


def _is_missing(package: str) -> bool:
    return importlib.util.find_spec(package) is None


def runtime_version() -> str:
    """The version of onnxruntime."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def trace_onnx(module: nn.Module, profile: OptimizationProfile, outputs: Sequence[str], path: Path) -> None:
    """Write `module`, which is on the CPU, to `path` as ONNX by tracing, its dynamic dimensions free.

    Of a branch in its Python only the way taken is kept, so compare before use. In a tenth of the time of
    `export_onnx`, which counts at a first start.
    Raises BackendUnavailable where the exporter is not installed or can't express the module.
    """
    settings: dict[str, Any] = {
        "dynamo": False,
        "training": torch.onnx.TrainingMode.PRESERVE,
        "dynamic_axes": _dynamic_axes(profile, outputs),
    }
    _export(module, profile, outputs, path, ("onnx",), settings)


def export_onnx(module: nn.Module, profile: OptimizationProfile, outputs: Sequence[str], path: Path) -> None:
    """The same through torch.export, for an exported program, whose sizes tracing would freeze."""
    settings: dict[str, Any] = {"dynamo": True, "verbose": False, "dynamic_shapes": profile.dynamic_shapes()}
    _export(module, profile, outputs, path, ("onnx", "onnxscript"), settings)


def _export(
    module: nn.Module,
    profile: OptimizationProfile,
    outputs: Sequence[str],
    path: Path,
    packages: Sequence[str],
    settings: dict[str, Any],
) -> None:
    missing = [name for name in packages if _is_missing(name)]
    if missing:
        raise BackendUnavailable(f"torch needs {' and '.join(missing)} to write ONNX: {EXTRA}")
    try:
        with warnings.catch_warnings(), torch.no_grad(), _quiet("onnxscript", "onnx_ir", "torch.onnx"):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(profile.export_sample(CPU)),
                str(path),
                opset_version=EXPORT_OPSET,
                input_names=[wanted.name for wanted in profile.inputs],
                output_names=list(outputs),
                external_data=False,
                **settings,
            )
    except Exception as error:  # the exporter runs the user's code, and raises whatever that or it may raise
        raise BackendUnavailable(f"no ONNX: {first_line(error)}") from error


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Loggers that say nothing below an error while the block runs."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _dynamic_axes(profile: OptimizationProfile, outputs: Sequence[str]) -> dict[str, dict[int, str]]:
    axes = {w.name: {i: "batch" if i == 0 else f"{w.name}_{i}" for i in w.dynamic} for w in profile.inputs}
    batches = any(0 in wanted.dynamic for wanted in profile.inputs)
    return {**axes, **({name: {0: "batch"} for name in outputs} if batches else {})}


class OnnxProgram:
    """An onnxruntime session on the CPU; `threads` is what one run may use."""

    backend = ONNXRUNTIME

    def __init__(self, path: Path, threads: int) -> None:
        """Load the ONNX file `path`. Raises BackendUnavailable where onnxruntime refuses it."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # threads that spin between runs take the cores from the other stages on this machine
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base but Exception
            raise BackendUnavailable(f"onnxruntime refuses {path.name}: {first_line(error)}") from error
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]

    def execute(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The outputs, in the session's own memory: nothing is copied on the way in or out."""
        binding = self._session.io_binding()
        for name, tensor in zip(self._inputs, inputs, strict=True):
            values = tensor.contiguous().numpy()
            binding.bind_input(name, "cpu", 0, values.dtype.type, values.shape, values.ctypes.data)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        return [from_dlpack(value._ortvalue) for value in binding.get_outputs()]


def first_line(error: BaseException) -> str:
    """Type and first line of an error."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
