"""Why a value could not be moved: one typed reason a failure, so that each becomes a counted miss."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from stagemesh.errors import StagemeshError


class Reason(StrEnum):
    """What went wrong with one value, or with the server it lies on."""

    MISSING = "missing"
    OVERSIZED = "oversized"
    WRONG_TYPE = "wrong_type"
    DENIED = "denied"
    FULL = "full"
    NOT_READY = "not_ready"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    PROTOCOL = "protocol"
    BUSY = "busy"
    STOPPED = "stopped"


SERVER_REASONS = frozenset({Reason.DENIED, Reason.NOT_READY, Reason.TIMEOUT, Reason.UNREACHABLE, Reason.PROTOCOL})
"""Reasons that speak of the server, not of one value: a circuit breaker counts them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A value that was not moved, and why."""

    reason: Reason
    detail: str = ""


class DataPathError(StagemeshError):
    """A connection that can't be used any more, or never could; `failure` says why."""

    code: ClassVar[str] = "UNAVAILABLE"
    default_reason: ClassVar[str] = "KV_DATA_PATH"

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"Redis {reason}: {detail}")
        self.failure = Failure(reason, detail)


_BY_WORD = {
    "WRONGTYPE": Reason.WRONG_TYPE,
    "NOAUTH": Reason.DENIED,
    "NOPERM": Reason.DENIED,
    "WRONGPASS": Reason.DENIED,
    "OOM": Reason.FULL,
    "BUSY": Reason.NOT_READY,
    "CLUSTERDOWN": Reason.NOT_READY,
    "LOADING": Reason.NOT_READY,
    "MASTERDOWN": Reason.NOT_READY,
    "READONLY": Reason.NOT_READY,
    "TRYAGAIN": Reason.NOT_READY,
}


def refusal(error: str) -> Failure:
    """The failure that an error reply of Redis means; its first word decides."""
    return Failure(_BY_WORD.get(error.partition(" ")[0], Reason.REFUSED), error)
