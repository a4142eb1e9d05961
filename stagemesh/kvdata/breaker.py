"""A circuit breaker: after failures in a row nobody asks for a while, then one does, and its outcome decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum

from stagemesh.errors import ConfigError
from stagemesh.kvdata.failures import SERVER_REASONS, Failure, Reason


class State(StrEnum):
    """CLOSED lets all through, OPEN none, PROBING one whose outcome is awaited."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Opens after `failures` in a row that speak of the server, for `wait_s`, doubled at each failed probe.

    Safe to share between threads. `clock` gives seconds, monotonic.
    """

    def __init__(
        self,
        failures: int = 3,
        wait_s: float = 0.5,
        longest_wait_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if failures < 1 or not 0 < wait_s <= longest_wait_s:
            raise ConfigError(
                f"breaker: expected failures >= 1 and 0 < wait_s <= longest_wait_s,"
                f" found {failures}, {wait_s} and {longest_wait_s}"
            )
        self._limit = failures
        self._first_wait_s = self._wait_s = wait_s
        self._longest_wait_s = longest_wait_s
        self._clock = clock
        self._lock = threading.Lock()
        self._in_row = 0
        self._state = State.CLOSED
        self._decided_at = 0.0
        self._cause = Failure(Reason.UNREACHABLE)

    @property
    def state(self) -> State:
        """Where it stands now."""
        return self._state

    def admit(self) -> Failure | None:
        """None where the caller may ask, and must then call `record`; else the failure that opened the breaker.

        A probe whose outcome is never recorded blocks others for `wait_s` only.
        """
        with self._lock:
            if self._state is State.CLOSED:
                return None
            if self._clock() - self._decided_at < self._wait_s:
                return self._cause
            self._state, self._decided_at = State.PROBING, self._clock()
            return None

    def record(self, failure: Failure | None) -> None:
        """The outcome of what was admitted: None, or a failure; one that speaks of one value only counts as None."""
        with self._lock:
            if failure is None or failure.reason not in SERVER_REASONS:
                self._in_row, self._state, self._wait_s = 0, State.CLOSED, self._first_wait_s
                return
            self._in_row += 1
            self._cause = failure
            if self._state is State.PROBING:
                self._wait_s = min(2 * self._wait_s, self._longest_wait_s)
            if self._state is State.PROBING or self._in_row >= self._limit:
                self._state, self._decided_at = State.OPEN, self._clock()
