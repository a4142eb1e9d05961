"""The one thing a service must give the stage layer for a model: something that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from stagemesh.oip.signature import Signature
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays


class Runner(Protocol):
    """A plug-in or a network: arrays in, arrays out, batch first; called in worker threads."""

    def signature(self) -> Signature:
        """The tensors it takes and gives; shapes start with the batch dimension, -1 is any size."""
        ...

    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        """Compute one batch. Raises InvalidInput for what the caller got wrong."""
        ...


@runtime_checkable
class Closable(Protocol):
    """A Runner that holds more than memory."""

    def close(self) -> None:
        """Give everything back; called once, after the last `run`."""
        ...


@runtime_checkable
class NamesPlatform(Protocol):
    """A Runner that knows what it runs on, in the words of ModelMetadata's `platform`."""

    platform: str
