"""Ask a server for its health and its models without ever blocking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stagemesh.client.answers import ModelState, parse_index
from stagemesh.client.calls import QUESTION_OPTIONS
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.service import OipStub


@dataclass(frozen=True, slots=True)
class ServerState:
    """What a server answered last; `problem` is empty where it answered at all, `models_problem` where it told its
    models too."""

    serving: bool = False
    models: tuple[ModelState, ...] = ()
    problem: str = "no answer yet"
    models_problem: str = ""

    @property
    def ready(self) -> bool:
        return self.serving

    @property
    def all_ready(self) -> bool:
        """Whether its models are known and ready too."""
        return self.serving and not self.models_problem and all(model.ready for model in self.models)


_Questions: TypeAlias = "tuple[grpc.Future[health_pb2.HealthCheckResponse], grpc.Future[pb.RepositoryIndexResponse]]"


class Probe:
    """Health and model states of one server, asked on a channel that does not watch health itself."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target, options=QUESTION_OPTIONS)
        self._check = health_pb2_grpc.HealthStub(self._channel).Check
        self._index = OipStub(self._channel).RepositoryIndex
        self._asked: _Questions | None = None

    @property
    def pending(self) -> bool:
        """Whether a question is under way."""
        return self._asked is not None

    def ask(self, timeout_s: float) -> None:
        """Send the questions; `answer` has the result some time within `timeout_s`."""
        self._asked = (
            self._check.future(health_pb2.HealthCheckRequest(), timeout=timeout_s),
            self._index.future(pb.RepositoryIndexRequest(), timeout=timeout_s),
        )

    @property
    def answered(self) -> bool:
        """Whether `answer` has something."""
        return self._asked is not None and all(call.done() for call in self._asked)

    def answer(self) -> ServerState | None:
        """The server's state once both questions are answered, once; None before."""
        if self._asked is None or not self.answered:
            return None
        health, index = self._asked
        self._asked = None
        if (error := health.exception()) is not None:
            return ServerState(problem=_describe(error))
        serving = health.result().status == health_pb2.HealthCheckResponse.SERVING
        if (error := index.exception()) is not None:
            return ServerState(serving, problem="", models_problem=_describe(error))
        return ServerState(serving, parse_index(index.result()), "")

    def forget(self) -> None:
        """Drop a question under way: the process it was sent to is gone."""
        if self._asked is not None:
            for call in self._asked:
                call.cancel()
            self._asked = None

    def close(self) -> None:
        """Give the connection up."""
        self._channel.close()


def _describe(error: Exception) -> str:
    if not isinstance(error, grpc.Call):
        return str(error)
    # gRPC's text names every address and layer on the way to the cause, which comes last.
    return f"{error.code().name}: {(error.details() or '').rsplit(': ', 1)[-1]}"
