"""What belongs to the call being served: request id, deadline, trace; and who serves it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

from stagemesh import logs
from stagemesh.errors import DeadlineExceeded
from stagemesh.settings import ServiceSettings

REQUEST_ID_KEY = "x-request-id"
TRACEPARENT_KEY = "traceparent"
MAX_ID_CHARS = 128
_TRAVEL_S = 0.01
_ROUNDING = 0.01


@dataclass(slots=True)
class Identity:
    """The server that answers: its stage and the name of its replica, complete once the server listens."""

    stage: str
    replica: str

    @classmethod
    def of(cls, settings: ServiceSettings) -> Identity:
        """Return the identity of the service that runs with `settings`."""
        return cls(settings.stage, settings.replica_name)


@dataclass(frozen=True, slots=True)
class CallContext:
    """The call being served; `deadline` is on the clock of time.monotonic, None where there is none.

    A client's own clock may end the call up to `early_s` before: gRPC rounds the time it is given up, by at most 1 %.
    """

    request_id: str
    deadline: float | None = None
    traceparent: str = ""
    early_s: float = 0.0


call_context: ContextVar[CallContext | None] = ContextVar("stagemesh_call", default=None)
"""The call served in this context; None outside of one."""

call_model: ContextVar[str] = ContextVar("stagemesh_model", default="")
"""Name of the model the call is about, set by the servicer once it knows that the model exists."""


def enter_call(metadata: Iterable[tuple[str, str | bytes]], seconds: float | None) -> CallContext:
    """Begin a call in this context, from the metadata it came with and the seconds it has left."""
    request_id = traceparent = ""
    for key, value in metadata:
        if key == REQUEST_ID_KEY:
            request_id = _plain(value)
        elif key == TRACEPARENT_KEY:
            traceparent = _plain(value)
    deadline = None if seconds is None else time.monotonic() + seconds
    early_s = _TRAVEL_S + _ROUNDING * (seconds or 0.0)
    call = CallContext(request_id or uuid.uuid4().hex, deadline, traceparent, early_s)
    call_context.set(call)
    call_model.set("")
    logs.request_id.set(call.request_id)
    return call


def _plain(value: str | bytes) -> str:
    """Return a client's value where it is safe to log and to pass on, else the empty string."""
    plain = isinstance(value, str) and len(value) <= MAX_ID_CHARS and value.isascii() and value.isprintable()
    return str(value) if plain else ""


def remaining(default_s: float) -> float:
    """Return the seconds the current call has left, `default_s` where it has no deadline.

    Raises DeadlineExceeded when none are left.
    """
    call = call_context.get()
    if call is None or call.deadline is None:
        return default_s
    left = call.deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(f"the request's time ran out {-left:.3f} s ago")
    return left


def out_of_time() -> bool:
    """Whether the deadline of the current call has come, by the client's clock at the latest."""
    call = call_context.get()
    return call is not None and call.deadline is not None and time.monotonic() >= call.deadline - call.early_s


def outgoing_metadata() -> tuple[tuple[str, str], ...]:
    """Return the metadata the next hop needs: request id and, where there is one, traceparent."""
    call = call_context.get()
    if call is None:
        return ()
    if not call.traceparent:
        return ((REQUEST_ID_KEY, call.request_id),)
    return ((REQUEST_ID_KEY, call.request_id), (TRACEPARENT_KEY, call.traceparent))
