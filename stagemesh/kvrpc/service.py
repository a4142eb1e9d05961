"""KVStoreService: its methods, the gRPC handler around what serves them, and the calls of a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from stagemesh.v1 import kvstore_pb2 as pb

SERVICE_NAME = "stagemesh.v1.KVStoreService"


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC: its messages, None where they pass as bytes (see `wire`), and which of the two are streams."""

    request: type[Message] | None
    response: type[Message] | None
    streams_requests: bool = False
    streams_responses: bool = False

    @property
    def kind(self) -> str:
        """As gRPC names it, such as `unary_stream`."""
        return "_".join("stream" if each else "unary" for each in (self.streams_requests, self.streams_responses))


METHODS: Mapping[str, Method] = {
    "Match": Method(pb.MatchRequest, pb.MatchResponse),
    "Get": Method(pb.GetRequest, None, streams_responses=True),
    "Put": Method(None, pb.PutResponse, streams_requests=True),
    "Reserve": Method(pb.ReserveRequest, pb.ReserveResponse),
    "Commit": Method(pb.CommitRequest, pb.CommitResponse),
    "Revoke": Method(pb.RevokeRequest, pb.RevokeResponse),
    "Report": Method(pb.ReportRequest, pb.ReportResponse),
    "Renew": Method(pb.RenewRequest, pb.RenewResponse),
    "Release": Method(pb.ReleaseRequest, pb.ReleaseResponse),
    "Pin": Method(pb.PinRequest, pb.PinResponse),
    "Stats": Method(pb.StatsRequest, pb.StatsResponse),
    "Purge": Method(pb.PurgeRequest, pb.PurgeResponse),
    "List": Method(pb.ListRequest, pb.ListResponse, streams_responses=True),
}


def kvstore_handler(behaviours: Mapping[str, Callable[..., Any]]) -> grpc.GenericRpcHandler:
    """The handler to add to a grpc.aio server; `behaviours` has what serves each method, by its name."""
    handlers = {}
    for name, method in METHODS.items():
        make = getattr(grpc, f"{method.kind}_rpc_method_handler")
        decode = method.request and method.request.FromString
        encode = method.response and method.response.SerializeToString
        handlers[name] = cast("grpc.RpcMethodHandler[Any, Any]", make(behaviours[name], decode, encode))
    return grpc.method_handlers_generic_handler(SERVICE_NAME, handlers)


def multicallable(channel: grpc.Channel | grpc.aio.Channel, name: str) -> Any:
    """What calls the method over a blocking or a grpc.aio channel; raises what grpc raises."""
    method = METHODS[name]
    encode = method.request and method.request.SerializeToString
    decode = method.response and method.response.FromString
    return getattr(channel, method.kind)(f"/{SERVICE_NAME}/{name}", encode, decode)
