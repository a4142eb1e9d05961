"""The public names of the package, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import stagemesh

NAMES = [
    "AsyncClient",
    "Client",
    "ConfigError",
    "DeadlineExceeded",
    "InferResult",
    "InvalidInput",
    "Overloaded",
    "Postprocessor",
    "Preprocessor",
    "RemoteFailure",
    "Signature",
    "StageFailed",
    "StagemeshError",
    "TensorSpec",
    "Unavailable",
    "UnknownModel",
    "Unsupported",
    "Worker",
]


def test_the_public_names_are_these() -> None:
    assert stagemesh.__all__ == NAMES
    assert all(getattr(stagemesh, name).__name__ == name for name in NAMES)
    assert set(NAMES) <= set(dir(stagemesh))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(stagemesh, "Clientt")


def test_importing_the_package_loads_neither_grpc_nor_numpy() -> None:
    code = "import sys, stagemesh, stagemesh.errors; print({'grpc', 'numpy', 'google'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
