"""stagemesh: inference as a mesh of gRPC stages. The SDK: clients, plug-in base classes, errors.

The names below are loaded on first use, so that `import stagemesh` and light submodules cost neither
gRPC nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stagemesh.client import AsyncClient, Client, InferResult
    from stagemesh.errors import (
        ConfigError,
        DeadlineExceeded,
        InvalidInput,
        Overloaded,
        RemoteFailure,
        StageFailed,
        StagemeshError,
        Unavailable,
        UnknownModel,
        Unsupported,
    )
    from stagemesh.oip.signature import Signature, TensorSpec
    from stagemesh.plugins import Postprocessor, Preprocessor
    from stagemesh.worker import Worker

__all__ = [
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

_HOMES = {
    "AsyncClient": "stagemesh.client",
    "Client": "stagemesh.client",
    "InferResult": "stagemesh.client",
    "Postprocessor": "stagemesh.plugins",
    "Preprocessor": "stagemesh.plugins",
    "Signature": "stagemesh.oip.signature",
    "TensorSpec": "stagemesh.oip.signature",
    "Worker": "stagemesh.worker",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'stagemesh' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "stagemesh.errors")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
