"""The service: what a server implements, the gRPC handler around it, and the stub that calls it.

ModelInfer and ModelStreamInfer pass bytes on both sides, so that a large message is parsed by the codec of
stagemesh.oip.messages alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar, cast, overload

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from stagemesh.errors import InvalidInput, Unsupported
from stagemesh.oip import open_inference_pb2 as pb

SERVICE_NAME = "inference.GRPCInferenceService"

PROBES = frozenset(f"/{SERVICE_NAME}/{name}" for name in ("ServerLive", "ServerReady", "ModelReady"))
"""The methods that ask whether a server is well, which it answers however busy it is."""

Request = TypeVar("Request")
Response = TypeVar("Response")
RequestMessage = TypeVar("RequestMessage", bound=Message)
ChannelT = TypeVar("ChannelT", grpc.Channel, grpc.aio.Channel)


class OipServicer(ABC):
    """What a server of the protocol answers. Methods raise StagemeshError, mapped by an interceptor."""

    @abstractmethod
    async def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Whether the process answers."""

    @abstractmethod
    async def server_ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Whether all models are loaded and warm."""

    @abstractmethod
    async def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Name, version and extensions."""

    @abstractmethod
    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether one model is loaded and warm; false for an unknown one."""

    @abstractmethod
    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a model; raises UnknownModel."""

    @abstractmethod
    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """How a model is batched and scheduled; raises UnknownModel."""

    @abstractmethod
    async def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Counts and times of one model, or of all; raises UnknownModel."""

    @abstractmethod
    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """The models and their states."""

    async def repository_model_load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Read a model's folder and serve it; raises Unsupported where models don't change."""
        raise Unsupported("this server loads its models at the start alone")

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        """Serve a model no longer; raises Unsupported where models don't change."""
        raise Unsupported("this server keeps its models until it ends")

    @abstractmethod
    async def model_infer(self, data: bytes) -> bytes:
        """An encoded ModelInferRequest to an encoded ModelInferResponse."""

    @abstractmethod
    def model_stream_infer(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Encoded ModelInferRequests to encoded ModelStreamInferResponses."""


def oip_handler(servicer: OipServicer) -> grpc.GenericRpcHandler:
    """The handler to add to a grpc.aio server. A malformed request raises InvalidInput inside the call."""

    async def infer(data: bytes, _: object) -> bytes:
        return await servicer.model_infer(data)

    async def stream(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for response in servicer.model_stream_infer(requests):
            yield response

    # grpc's types know the behaviours of blocking servers alone.
    unary = cast(Any, grpc.unary_unary_rpc_method_handler)
    handlers = {
        "ServerLive": unary(_parsed(servicer.server_live, pb.ServerLiveRequest)),
        "ServerReady": unary(_parsed(servicer.server_ready, pb.ServerReadyRequest)),
        "ServerMetadata": unary(_parsed(servicer.server_metadata, pb.ServerMetadataRequest)),
        "ModelReady": unary(_parsed(servicer.model_ready, pb.ModelReadyRequest)),
        "ModelMetadata": unary(_parsed(servicer.model_metadata, pb.ModelMetadataRequest)),
        "ModelConfig": unary(_parsed(servicer.model_config, pb.ModelConfigRequest)),
        "ModelStatistics": unary(_parsed(servicer.model_statistics, pb.ModelStatisticsRequest)),
        "RepositoryIndex": unary(_parsed(servicer.repository_index, pb.RepositoryIndexRequest)),
        "RepositoryModelLoad": unary(_parsed(servicer.repository_model_load, pb.RepositoryModelLoadRequest)),
        "RepositoryModelUnload": unary(_parsed(servicer.repository_model_unload, pb.RepositoryModelUnloadRequest)),
        "ModelInfer": unary(infer),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(cast(Any, stream)),
    }
    return grpc.method_handlers_generic_handler(SERVICE_NAME, handlers)


def _parsed(
    method: Callable[[RequestMessage], Awaitable[Message]], request_class: type[RequestMessage]
) -> Callable[[bytes, object], Awaitable[bytes]]:
    """`method` on bytes: parsed here, because grpc answers a failing deserialiser with INTERNAL."""

    async def call(data: bytes, _: object) -> bytes:
        try:
            request = request_class.FromString(data)
        except DecodeError as error:
            raise InvalidInput(f"malformed {request_class.DESCRIPTOR.name}: {error}") from error
        return (await method(request)).SerializeToString()

    return call


class _Rpc(Generic[Request, Response]):
    """An RPC as an attribute of OipStub: its multicallable over the stub's channel, made on first use."""

    def __init__(self, request: type[Request], response: type[Response]) -> None:
        self._serializer = getattr(request, "SerializeToString", None)
        self._deserializer = getattr(response, "FromString", None)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def _make(self, stub: OipStub[Any], kind: str) -> Any:
        factory = getattr(stub.channel, kind)
        call = factory(f"/{SERVICE_NAME}/{self._name}", self._serializer, self._deserializer)
        # Found before this descriptor from now on.
        stub.__dict__[self._name] = call
        return call


class _Unary(_Rpc[Request, Response]):
    @overload
    def __get__(
        self, stub: OipStub[grpc.aio.Channel], owner: object
    ) -> grpc.aio.UnaryUnaryMultiCallable[Request, Response]: ...
    @overload
    def __get__(
        self, stub: OipStub[grpc.Channel], owner: object
    ) -> grpc.UnaryUnaryMultiCallable[Request, Response]: ...
    def __get__(self, stub: OipStub[Any], owner: object) -> Any:
        return self._make(stub, "unary_unary")


class _Stream(_Rpc[Request, Response]):
    @overload
    def __get__(
        self, stub: OipStub[grpc.aio.Channel], owner: object
    ) -> grpc.aio.StreamStreamMultiCallable[Request, Response]: ...
    @overload
    def __get__(
        self, stub: OipStub[grpc.Channel], owner: object
    ) -> grpc.StreamStreamMultiCallable[Request, Response]: ...
    def __get__(self, stub: OipStub[Any], owner: object) -> Any:
        return self._make(stub, "stream_stream")


class OipStub(Generic[ChannelT]):
    """Calls a server of the protocol over a blocking or a grpc.aio channel; raises what grpc raises.

    Each attribute is a multicallable; those of the two inference RPCs take and give bytes.
    """

    ServerLive = _Unary(pb.ServerLiveRequest, pb.ServerLiveResponse)
    ServerReady = _Unary(pb.ServerReadyRequest, pb.ServerReadyResponse)
    ServerMetadata = _Unary(pb.ServerMetadataRequest, pb.ServerMetadataResponse)
    ModelReady = _Unary(pb.ModelReadyRequest, pb.ModelReadyResponse)
    ModelMetadata = _Unary(pb.ModelMetadataRequest, pb.ModelMetadataResponse)
    ModelConfig = _Unary(pb.ModelConfigRequest, pb.ModelConfigResponse)
    ModelStatistics = _Unary(pb.ModelStatisticsRequest, pb.ModelStatisticsResponse)
    RepositoryIndex = _Unary(pb.RepositoryIndexRequest, pb.RepositoryIndexResponse)
    RepositoryModelLoad = _Unary(pb.RepositoryModelLoadRequest, pb.RepositoryModelLoadResponse)
    RepositoryModelUnload = _Unary(pb.RepositoryModelUnloadRequest, pb.RepositoryModelUnloadResponse)
    ModelInfer = _Unary(bytes, bytes)
    ModelStreamInfer = _Stream(bytes, bytes)

    def __init__(self, channel: ChannelT) -> None:
        self.channel: ChannelT = channel
