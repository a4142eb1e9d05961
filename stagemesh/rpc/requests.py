"""The requests that a server is answering: how many at once, how each ends, and its log line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import grpc

from stagemesh.errors import Overloaded, StageFailed, StagemeshError
from stagemesh.rpc.context import Identity, call_model, out_of_time
from stagemesh.rpc.status import call_origin, code_name, details_text
from stagemesh.telemetry import Metrics

# A string, as only the stubs of gRPC know this class as generic.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

log = logging.getLogger(__name__)


class Requests:
    """Bounds, counts and logs requests: calls, and those that come in a stream. At most `limit` have a place."""

    def __init__(self, identity: Identity, metrics: Metrics, limit: int) -> None:
        self._identity = identity
        self._metrics = metrics
        self._limit = limit
        self._in_flight = 0
        self.stopping = False
        """Whether it is the server that cancels what is under way."""

    def enter(self, *, bounded: bool = True) -> None:
        """Take a place, to be given back by `leave`; Overloaded where a bounded request finds none."""
        if bounded and self._in_flight >= self._limit:
            raise Overloaded(
                f"expected at most {self._limit} requests in flight, found one more", reason="TOO_MANY_IN_FLIGHT"
            )
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)

    def leave(self) -> None:
        """Give a place back."""
        self._in_flight -= 1
        self._metrics.in_flight.set(self._in_flight)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place while the block runs; raises Overloaded."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    @contextmanager
    def answered(self, name: str, context: Context | None = None, *, placed: bool = True) -> Iterator[None]:
        """Count and log how the block, which answers one request, ends; it has a place where `placed`.

        `context` is that of the call where the request is the whole of it. What is no StagemeshError leaves the
        block as StageFailed, so that a servicer's bug fails this one request and leaves the server serving.
        """
        started = time.perf_counter()
        place: AbstractContextManager[None] = self.place() if placed else nullcontext()
        try:
            with place:
                yield
        except asyncio.CancelledError:
            self._cancelled(name, started)
            raise
        except StagemeshError as error:
            self._raised(name, error, started)
            raise
        except grpc.aio.AbortError:
            if context is not None:
                code = grpc.StatusCode(context.code()).name
                self._failed(name, code, code, context.details(), started)
            raise
        except Exception as error:
            log.exception("%s raised", name)
            failure = StageFailed(f"unexpected {type(error).__name__}: {error}", reason="UNEXPECTED")
            self._raised(name, failure, started)
            raise failure from error
        if context is not None and context.cancelled():
            # A stream that the client cancels looks like one it ended.
            self._cancelled(name, started)
        else:
            self._succeeded(name, started)

    def _succeeded(self, name: str, started: float) -> None:
        self._metrics.requests_total(call_model.get(), "OK").inc()
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s OK in %.1f ms", name, 1e3 * (time.perf_counter() - started))

    def _cancelled(self, name: str, started: float) -> None:
        if out_of_time():
            self._failed(name, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "the request's time ran out", started)
        elif self.stopping:
            self._failed(name, "UNAVAILABLE", "STOPPING", "server stopping", started)
        else:
            self._failed(name, "CANCELLED", "CANCELLED", "the client gave up", started)

    def _raised(self, name: str, error: StagemeshError, started: float) -> None:
        text = details_text(error, call_origin(self._identity))
        self._failed(name, code_name(error), error.reason, text, started)

    def _failed(self, name: str, code: str, reason: str, details: str, started: float) -> None:
        model = "" if code == "NOT_FOUND" else call_model.get()
        self._metrics.requests_total(model, code).inc()
        self._metrics.failures_total(model, reason).inc()
        level = logging.ERROR if code == "INTERNAL" else logging.INFO
        log.log(level, "%s %s in %.1f ms: %s", name, code, 1e3 * (time.perf_counter() - started), details)
