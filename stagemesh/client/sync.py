"""The client for ordinary code; safe to share between threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, Unpack

import grpc
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
from stagemesh.rpc.channel import sync_channel

T = TypeVar("T")


class Client:
    """Talks to a gateway or to a single stage at `target` (`host:port` or any gRPC target).

    Every method raises stagemesh errors: RemoteFailure with the status and the origin (stage, replica,
    model, request id) of what a server answered, Unavailable where none could be reached.
    `deadline_s` bounds each call in seconds, sending and retries included; `max_message_mib` a message.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        max_message_mib: int = 256,
    ) -> None:
        self._target = target
        self._deadline_s = deadline_s
        self._channel = sync_channel(target, max_message_mib << 20)
        self._question_channel = grpc.insecure_channel(target, options=QUESTION_OPTIONS)
        self._stub, self._question_stub = OipStub(self._channel), OipStub(self._question_channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection up; calls under way end as cancelled."""
        self._channel.close()
        self._question_channel.close()

    def infer(self, model: str, inputs: Mapping[str, np.ndarray], **options: Unpack[InferOptions]) -> InferResult:
        """Run a model on named arrays, batch first."""
        return self._run(calls.infer(model, inputs, options))

    def infer_image(self, model: str, photo: Photo | Sequence[Photo], **options: Unpack[InferOptions]) -> InferResult:
        """Run a model on encoded photos: paths or file contents, one or a batch. OSError on reading."""
        return self._run(calls.infer(model, calls.encoded_photos(photo), options))

    def live(self) -> bool:
        """Whether the server answers."""
        return self._run(calls.live())

    def ready(self) -> bool:
        """Whether the server's models are loaded."""
        return self._run(calls.ready())

    def model_ready(self, model: str, version: str = "") -> bool:
        """Whether this model takes requests; False for an unknown one."""
        return self._run(calls.model_ready(model, version))

    def models(self) -> tuple[ModelState, ...]:
        """Every model of the repository with its state."""
        return self._run(calls.models())

    def load_model(self, model: str, *, deadline_s: float = LOAD_DEADLINE_S) -> None:
        """Have the mesh read the model's folder and serve it, in place of what it serves under that name.

        A model served before goes on until the new one is ready at every stage, and stays where a stage fails.
        """
        self._run(calls.load_model(model, deadline_s))

    def unload_model(self, model: str, *, deadline_s: float = LOAD_DEADLINE_S) -> None:
        """Have the mesh serve a model no longer; returns once the requests it has are answered."""
        self._run(calls.unload_model(model, deadline_s))

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """The model's inputs and outputs."""
        return self._run(calls.metadata(model, version))

    def config(self, model: str, version: str = "") -> pb.ModelConfig:
        """The model's configuration in Triton's terms (batching, labels)."""
        return self._run(calls.config(model, version))

    def statistics(self, model: str = "", version: str = "") -> tuple[pb.ModelStatistics, ...]:
        """Counts and summed times (ns) of one model, or of all."""
        return self._run(calls.statistics(model, version))

    def _run(self, call: Call[T]) -> T:
        timeout = self._deadline_s if call.deadline_s is None else call.deadline_s
        method = getattr(self._question_stub if call.is_question else self._stub, call.rpc)
        try:
            answer = method(call.request, timeout=timeout, metadata=call.metadata)
        except grpc.RpcError as error:
            raise call.failed(error, self._target) from error
        return call.parse(answer)
