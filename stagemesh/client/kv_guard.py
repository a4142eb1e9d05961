"""A circuit breaker around the kvstore service: after failures in a row calls fail at once, with the cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stagemesh.errors import DeadlineExceeded, RemoteFailure, StagemeshError, Unavailable
from stagemesh.kvdata.breaker import Breaker
from stagemesh.kvdata.failures import Failure, Reason

CIRCUIT_OPEN = "KV_CIRCUIT_OPEN"


@contextmanager
def guarded(breaker: Breaker, target: str) -> Iterator[None]:
    """One call inside. Raises Unavailable, reason KV_CIRCUIT_OPEN, instead of making it while the circuit is open."""
    cause = breaker.admit()
    if cause is not None:
        text = f"kvstore at {target} is not asked for a while, after {cause.reason}: {cause.detail}"
        raise Unavailable(text, reason=CIRCUIT_OPEN)
    try:
        yield
    except StagemeshError as error:
        breaker.record(_failure(error))
        raise
    except BaseException:
        # The caller gave up: that says nothing of the service.
        breaker.record(None)
        raise
    breaker.record(None)


def _failure(error: StagemeshError) -> Failure | None:
    status = error.status if isinstance(error, RemoteFailure) else error.code
    if isinstance(error, DeadlineExceeded) or status == "DEADLINE_EXCEEDED":
        return Failure(Reason.TIMEOUT, str(error))
    return Failure(Reason.UNREACHABLE, str(error)) if status == "UNAVAILABLE" else None
