"""The client for asyncio code; belongs to one event loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, Unpack

import grpc.aio
import numpy as np

from stagemesh.client import calls
from stagemesh.client.answers import InferResult, ModelMetadata, ModelState
from stagemesh.client.calls import (
    DEFAULT_DEADLINE_S,
    DEFAULT_TARGET,
    LOAD_DEADLINE_S,
    QUESTION_OPTIONS,
    Call,
    InferOptions,
    Photo,
)
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.service import OipStub
from stagemesh.rpc.channel import aio_channel

T = TypeVar("T")


class AsyncClient:
    """`Client` with async methods: the same arguments, answers and errors."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        max_message_mib: int = 256,
    ) -> None:
        self._target = target
        self._deadline_s = deadline_s
        self._channel = aio_channel(target, max_message_mib << 20)
        self._question_channel = grpc.aio.insecure_channel(target, options=QUESTION_OPTIONS)
        self._stub, self._question_stub = OipStub(self._channel), OipStub(self._question_channel)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connection up; calls under way end as cancelled."""
        await self._channel.close()
        await self._question_channel.close()

    async def infer(self, model: str, inputs: Mapping[str, np.ndarray], **options: Unpack[InferOptions]) -> InferResult:
        return await self._run(calls.infer(model, inputs, options))

    async def infer_image(
        self, model: str, photo: Photo | Sequence[Photo], **options: Unpack[InferOptions]
    ) -> InferResult:
        return await self._run(calls.infer(model, calls.encoded_photos(photo), options))

    async def live(self) -> bool:
        return await self._run(calls.live())

    async def ready(self) -> bool:
        return await self._run(calls.ready())

    async def model_ready(self, model: str, version: str = "") -> bool:
        return await self._run(calls.model_ready(model, version))

    async def models(self) -> tuple[ModelState, ...]:
        return await self._run(calls.models())

    async def load_model(self, model: str, *, deadline_s: float = LOAD_DEADLINE_S) -> None:
        await self._run(calls.load_model(model, deadline_s))

    async def unload_model(self, model: str, *, deadline_s: float = LOAD_DEADLINE_S) -> None:
        await self._run(calls.unload_model(model, deadline_s))

    async def metadata(self, model: str, version: str = "") -> ModelMetadata:
        return await self._run(calls.metadata(model, version))

    async def config(self, model: str, version: str = "") -> pb.ModelConfig:
        return await self._run(calls.config(model, version))

    async def statistics(self, model: str = "", version: str = "") -> tuple[pb.ModelStatistics, ...]:
        return await self._run(calls.statistics(model, version))

    async def _run(self, call: Call[T]) -> T:
        timeout = self._deadline_s if call.deadline_s is None else call.deadline_s
        method = getattr(self._question_stub if call.is_question else self._stub, call.rpc)
        try:
            answer = await method(call.request, timeout=timeout, metadata=call.metadata)
        except grpc.aio.AioRpcError as error:
            raise call.failed(error, self._target) from error
        return call.parse(answer)
