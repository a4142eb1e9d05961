"""One model as a server offers it, whatever computes it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stagemesh.errors import InvalidInput
from stagemesh.oip.messages import InferRequest, InferResponse
from stagemesh.oip.signature import Signature
from stagemesh.oip.tensors import Tensor
from stagemesh.repository import Batching
from stagemesh.stage.statistics import ModelStatistics

MAX_PRIORITY = 10
DEFAULT_PRIORITY = 5


class ServedModel(ABC):
    """A model of a stage, or a pipeline of the gateway, behind the Open Inference Protocol.

    `generation` tells the contents of its folder from those that a load under the same name finds later.
    """

    platform: str = "stagemesh"
    policy: Batching | None = None

    def __init__(self, name: str, version: str, generation: str = "") -> None:
        self.name = name
        self.version = version
        self.generation = generation
        self.statistics = ModelStatistics()
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model open while a request is answered."""
        self._users += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def idle(self) -> None:
        """Return once no request is being answered."""
        await self._idle.wait()

    @abstractmethod
    async def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request. Raises StagemeshError."""

    @abstractmethod
    async def signature(self) -> Signature:
        """The tensors it takes and gives."""

    @abstractmethod
    async def max_batch(self) -> int:
        """The most samples of one request."""

    async def ready(self) -> bool:
        """Whether a request would find everything it needs."""
        return True

    @abstractmethod
    async def close(self) -> None:
        """Give everything back; requests that wait fail with Unavailable."""


def queue_policy(request: InferRequest, default_timeout_us: int) -> tuple[int, float | None]:
    """The priority of a request (1 first, 10 last, 0 is 5) and its queue timeout in seconds, if any.

    Raises InvalidInput when `priority` or `timeout` (microseconds) is no integer in its range.
    """
    priority = _int_parameter(request, "priority", 0, MAX_PRIORITY) or DEFAULT_PRIORITY
    timeout_us = _int_parameter(request, "timeout", 0, 2**62) or default_timeout_us
    return priority, timeout_us / 1e6 if timeout_us else None


def _int_parameter(request: InferRequest, key: str, low: int, high: int) -> int:
    value = request.parameters.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(f"parameter '{key}': expected an integer of {low} to {high}, found {value!r}")
    return value


def select_outputs(outputs: dict[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
    """The requested outputs in their order; all where none are named. Raises InvalidInput."""
    if not wanted:
        return outputs
    unknown = [name for name in wanted if name not in outputs]
    if unknown:
        raise InvalidInput(f"unexpected inference output '{unknown[0]}', expected some of {', '.join(outputs)}")
    return {name: outputs[name] for name in wanted}
