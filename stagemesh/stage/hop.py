"""A next hop: another server of the mesh, or a foreign one, behind one balanced channel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc.aio

from stagemesh.errors import RemoteFailure, StageFailed, StagemeshError, Unsupported
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.messages import InferRequest, InferResponse
from stagemesh.oip.service import OipStub
from stagemesh.rpc.addresses import each_address
from stagemesh.rpc.channel import aio_channel
from stagemesh.rpc.context import outgoing_metadata, remaining
from stagemesh.rpc.status import from_rpc_error
from stagemesh.stage.repository_request import KEEP, RELEASE

ROUTE_EXTENSION = "stagemesh_route"
CHANGE_S = 1800.0
"""Time for a load or an unload: fetching weights and building an engine are part of a load."""

R = TypeVar("R")


class Hop:
    """Calls one stage at one target; deadline, request id and trace of the current call go along."""

    def __init__(
        self, stage: str, target: str, *, max_message_bytes: int, default_deadline_s: float, only_ready: bool = True
    ) -> None:
        """`only_ready` False calls servers that say they are not ready too."""
        self._stage = stage
        self._target = target
        self._max_message_bytes = max_message_bytes
        self._default_deadline_s = default_deadline_s
        self._channel = aio_channel(target, max_message_bytes, only_ready=only_ready)
        self._stub = OipStub(self._channel)
        self._knows_routes: bool | None = None

    async def infer(self, request: InferRequest) -> InferResponse:
        """Raises RemoteFailure, Unavailable or DeadlineExceeded, naming the stage that failed.

        An answer that is no inference response, as of a foreign server, is a StageFailed.
        """
        data = await self._call(self._stub.ModelInfer, request.encode())
        try:
            return InferResponse.decode(data)
        except StagemeshError as error:
            raise StageFailed(f"{self} answered: {error}") from error

    async def knows_routes(self) -> bool:
        """Whether the server there is one of ours, asked once; False for a foreign OIP server."""
        if self._knows_routes is None:
            try:
                metadata = await self._call(self._stub.ServerMetadata, pb.ServerMetadataRequest())
                self._knows_routes = ROUTE_EXTENSION in metadata.extensions
            except StagemeshError as error:
                if not _unimplemented(error):
                    raise
                self._knows_routes = False
        return self._knows_routes

    async def model_ready(self, model: str) -> bool:
        """Whether a replica there has the model loaded; False when none is reached, True if it can't tell."""
        try:
            answer = await self._call(self._stub.ModelReady, pb.ModelReadyRequest(name=model))
        except StagemeshError as error:
            return _unimplemented(error)
        return bool(answer.ready)

    async def metadata(self, model: str) -> pb.ModelMetadataResponse:
        """The model's tensors there. Raises as `infer`, and Unsupported where a foreign server does not tell them."""
        try:
            return await self._call(self._stub.ModelMetadata, pb.ModelMetadataRequest(name=model))
        except StagemeshError as error:
            if _unimplemented(error):
                raise Unsupported(f"{self} does not tell the tensors of its models") from error
            raise

    async def max_batch(self, model: str) -> int:
        """The most samples of one request there, 0 where the server does not tell. Raises as `infer`."""
        try:
            answer = await self._call(self._stub.ModelConfig, pb.ModelConfigRequest(name=model))
        except StagemeshError as error:
            if _unimplemented(error):
                return 0
            raise
        return int(answer.config.max_batch_size)

    async def replicas(self) -> list[Hop]:
        """A hop to each address of the target, to be closed by the caller. Raises Unavailable, Unsupported.

        They reach a replica that is not ready, for want of a model maybe, which a load can put right.
        """
        return [
            Hop(
                self._stage,
                address,
                max_message_bytes=self._max_message_bytes,
                default_deadline_s=self._default_deadline_s,
                only_ready=False,
            )
            for address in await each_address(self._target)
        ]

    async def load(self, model: str, keep: str) -> None:
        """Have the server load a model and keep the one of generation `keep` at hand. Raises as `infer`."""
        request = pb.RepositoryModelLoadRequest(model_name=model)
        if keep:
            request.parameters[KEEP].string_param = keep
        await self._call(self._stub.RepositoryModelLoad, request, CHANGE_S)

    async def unload(self, model: str, generation: str = "") -> None:
        """Have the server unload a model, or only the kept one of `generation`. Raises as `infer`."""
        request = pb.RepositoryModelUnloadRequest(model_name=model)
        if generation:
            request.parameters[RELEASE].string_param = generation
        await self._call(self._stub.RepositoryModelUnload, request, CHANGE_S)

    def __str__(self) -> str:
        return f"stage '{self._stage}' at {self._target}"

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _call(self, method: Callable[..., Awaitable[R]], request: object, default_s: float = 0.0) -> R:
        left_s = remaining(default_s or self._default_deadline_s)
        try:
            return await method(request, timeout=left_s, metadata=outgoing_metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._stage, self._target) from error


def _unimplemented(error: StagemeshError) -> bool:
    return isinstance(error, RemoteFailure) and error.status == "UNIMPLEMENTED"
