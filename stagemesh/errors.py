"""The one error tree of the mesh, free of gRPC.

    StagemeshError
    ├── InvalidInput        the caller sent something wrong             INVALID_ARGUMENT
    ├── UnknownModel        no model or version of that name            NOT_FOUND
    ├── Unavailable         loading, draining, or a hop out of reach    UNAVAILABLE
    ├── Overloaded          a bounded queue is full                     RESOURCE_EXHAUSTED
    ├── DeadlineExceeded    the time of the request ran out             DEADLINE_EXCEEDED
    ├── Unsupported         a feature this server does not offer        UNIMPLEMENTED
    ├── StageFailed         a plug-in or a network raised               INTERNAL
    ├── RemoteFailure       the error of another stage, passed on       its own status
    └── ConfigError         a setting, model folder or source is wrong  ends the process or the load

`stagemesh.rpc.status` maps the tree to gRPC statuses, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class StagemeshError(Exception):
    """Base of every error the mesh raises on purpose.

    `code` is the gRPC status name, `reason` the UPPER_SNAKE_CASE word of google.rpc.ErrorInfo.
    """

    code: ClassVar[str] = "INTERNAL"
    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason


class InvalidInput(StagemeshError):
    """The request is wrong; the message says what was expected and what was found."""

    code = "INVALID_ARGUMENT"
    default_reason = "INVALID_INPUT"


class UnknownModel(StagemeshError):
    """No model, or no version of it, has that name here."""

    code = "NOT_FOUND"
    default_reason = "UNKNOWN_MODEL"


class Unavailable(StagemeshError):
    """The stage, or a hop behind it, can't take the request now; another replica may, unless `elsewhere` says no."""

    code = "UNAVAILABLE"
    default_reason = "UNAVAILABLE"
    elsewhere: ClassVar[bool] = True


class Overloaded(StagemeshError):
    """A bounded queue is full; `retry_after_s` is the wait to suggest, in seconds."""

    code = "RESOURCE_EXHAUSTED"
    default_reason = "QUEUE_FULL"

    def __init__(self, message: str, *, retry_after_s: float = 0.1, reason: str = "") -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(StagemeshError):
    """The request's own time, or its queue timeout, ran out before it was computed."""

    code = "DEADLINE_EXCEEDED"
    default_reason = "DEADLINE_EXCEEDED"


class Unsupported(StagemeshError):
    """The protocol knows the feature; this server does not offer it."""

    code = "UNIMPLEMENTED"
    default_reason = "UNSUPPORTED"


class StageFailed(StagemeshError):
    """A plug-in or a network raised; the request was well formed."""

    code = "INTERNAL"
    default_reason = "STAGE_FAILED"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an error arose: the metadata of its google.rpc.ErrorInfo."""

    stage: str = ""
    replica: str = ""
    model: str = ""
    request_id: str = ""


class RemoteFailure(StagemeshError):
    """An error answered by another server, with its own status, reason and origin."""

    def __init__(
        self,
        message: str,
        *,
        status: str,
        reason: str = "",
        origin: Origin | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, reason=reason or status)
        self.status = status
        self.origin = origin
        self.retry_after_s = retry_after_s


class ConfigError(StagemeshError):
    """A setting, a model folder or a model source is wrong; raised while starting or loading."""

    code = "FAILED_PRECONDITION"
    default_reason = "CONFIG"
