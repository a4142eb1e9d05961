"""The calls a client can make, as values: which RPC, with which request, and how to read its answer.

`Client` and `AsyncClient` only differ in how they carry a call out.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

import grpc
import numpy as np

from stagemesh.client.answers import (
    InferResult,
    ModelMetadata,
    ModelState,
    parse_index,
    parse_infer,
    parse_metadata,
)
from stagemesh.errors import Origin, RemoteFailure, StagemeshError
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.messages import InferRequest
from stagemesh.oip.tensors import Parameter, Tensor
from stagemesh.rpc.status import from_rpc_error
from stagemesh.stage.hop import CHANGE_S

T = TypeVar("T")
Photo = Path | str | bytes

DEFAULT_TARGET = "127.0.0.1:8001"
DEFAULT_DEADLINE_S = 60.0
LOAD_DEADLINE_S = CHANGE_S
"""Time for a load or an unload, as long as the gateway gives its stages: it may fetch weights, or wait for requests
that are under way."""

# For questions about a server, which must reach it while it is not ready: a channel that watches health
# refuses to call it then.
QUESTION_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
)


class InferOptions(TypedDict, total=False):
    """Keyword arguments of `infer` and `infer_image`, all optional."""

    parameters: Mapping[str, Parameter]
    """Request parameters, such as `top_k`."""
    outputs: Sequence[str]
    """Names of the wanted outputs; empty asks for all."""
    version: str
    """Model version; empty lets the server choose."""
    request_id: str
    """Comes back as `InferResult.id` and stands in every log line; one is made where it is empty."""
    deadline_s: float
    """Time for this call in seconds, instead of the client's own."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One RPC: attribute of the stub, message or bytes to send, reader of the answer."""

    rpc: str
    request: Any
    parse: Callable[[Any], T]
    model: str = ""
    request_id: str = ""
    deadline_s: float | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-request-id", self.request_id),) if self.request_id else ()

    @property
    def is_question(self) -> bool:
        """Whether the call asks about the server instead of using it."""
        return self.rpc != "ModelInfer"

    def failed(self, error: grpc.RpcError, target: str) -> StagemeshError:
        """The stagemesh error to raise when this call to `target` ended in `error`."""
        failure = from_rpc_error(error, "server", target)
        if isinstance(failure, RemoteFailure):
            origin = failure.origin or Origin()
            failure.origin = replace(
                origin, model=origin.model or self.model, request_id=origin.request_id or self.request_id
            )
            return failure
        request = f" [request {self.request_id}]" if self.request_id else ""
        return type(failure)(f"{failure}{request}", reason=failure.reason)


def infer(model: str, inputs: Mapping[str, np.ndarray], options: InferOptions) -> Call[InferResult]:
    """ModelInfer over named arrays; InvalidInput for a dtype the protocol does not have."""
    request = InferRequest(
        model_name=model,
        inputs={name: Tensor.from_numpy(array) for name, array in inputs.items()},
        model_version=options.get("version", ""),
        id=options.get("request_id") or uuid.uuid4().hex,
        parameters=dict(options.get("parameters", {})),
        outputs=tuple(options.get("outputs", ())),
    )
    return Call("ModelInfer", request.encode(), parse_infer, model, request.id, options.get("deadline_s"))


def encoded_photos(photos: Photo | Sequence[Photo]) -> dict[str, np.ndarray]:
    """The input `image`, BYTES [N]: photo files as they are, a path is read, bytes are sent unchanged."""
    batch = [photos] if isinstance(photos, Path | str | bytes) else list(photos)
    image = np.empty(len(batch), dtype=object)
    image[:] = [photo if isinstance(photo, bytes) else Path(photo).read_bytes() for photo in batch]
    return {"image": image}


def live() -> Call[bool]:
    return Call("ServerLive", pb.ServerLiveRequest(), lambda answer: bool(answer.live))


def ready() -> Call[bool]:
    return Call("ServerReady", pb.ServerReadyRequest(), lambda answer: bool(answer.ready))


def model_ready(model: str, version: str) -> Call[bool]:
    request = pb.ModelReadyRequest(name=model, version=version)
    return Call("ModelReady", request, lambda answer: bool(answer.ready), model)


def models() -> Call[tuple[ModelState, ...]]:
    return Call("RepositoryIndex", pb.RepositoryIndexRequest(), parse_index)


def load_model(model: str, deadline_s: float) -> Call[None]:
    request = pb.RepositoryModelLoadRequest(model_name=model)
    return Call("RepositoryModelLoad", request, lambda answer: None, model, uuid.uuid4().hex, deadline_s)


def unload_model(model: str, deadline_s: float) -> Call[None]:
    request = pb.RepositoryModelUnloadRequest(model_name=model)
    return Call("RepositoryModelUnload", request, lambda answer: None, model, uuid.uuid4().hex, deadline_s)


def metadata(model: str, version: str) -> Call[ModelMetadata]:
    request = pb.ModelMetadataRequest(name=model, version=version)
    return Call("ModelMetadata", request, parse_metadata, model)


def config(model: str, version: str) -> Call[pb.ModelConfig]:
    request = pb.ModelConfigRequest(name=model, version=version)
    return Call("ModelConfig", request, lambda answer: answer.config, model)


def statistics(model: str, version: str) -> Call[tuple[pb.ModelStatistics, ...]]:
    request = pb.ModelStatisticsRequest(name=model, version=version)
    return Call("ModelStatistics", request, lambda answer: tuple(answer.model_stats), model)
