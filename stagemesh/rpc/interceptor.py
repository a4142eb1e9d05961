"""What happens around every call: its context, its metrics, its log line, and errors as statuses.

Wrapped handlers take and give bytes: messages are parsed and serialised in here, so that a malformed
message is the caller's error and bytes are counted for every method.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from stagemesh.errors import InvalidInput, Overloaded, StageFailed, StagemeshError
from stagemesh.rpc.context import Identity, call_model, enter_call
from stagemesh.rpc.status import call_origin, to_rpc_status
from stagemesh.rpc.streams import OpenStreams, RequestStream
from stagemesh.telemetry import Metrics

# Strings, as only the stubs of gRPC know these classes as generic.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Work = Callable[[Any, Context], Awaitable[bytes | None]]

_KINDS: dict[tuple[bool, bool], Callable[[Any], Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}

log = logging.getLogger(__name__)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of one server, apart from the `grpc.*` ones (health, reflection).

    A handler is a coroutine function or, where it answers a stream, returns an async iterator. It runs
    with `call_context` set and may raise any StagemeshError. At most `max_in_flight` calls run at once;
    a call of one request gets `default_deadline_s` where the client set no deadline.
    """

    def __init__(self, identity: Identity, metrics: Metrics, *, max_in_flight: int, default_deadline_s: float) -> None:
        self._identity = identity
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._default_deadline_s = default_deadline_s
        self._in_flight = 0
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}
        self.streams = OpenStreams()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the wrapped handler of the called method; it is wrapped once, then kept."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith("/grpc."):
            return handler
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(handler, method.rpartition("/")[2]))
        return known[1]

    def _wrap(self, handler: Handler, name: str) -> Handler:
        work = self._streaming_work(handler) if handler.response_streaming else self._unary_work(handler)
        default_s = None if handler.request_streaming else self._default_deadline_s

        async def serve(request: Any, context: Context) -> bytes | None:
            seconds = context.time_remaining()
            enter_call(context.invocation_metadata() or (), default_s if seconds is None else seconds)
            return await self._serve(name, work, request, context)

        return _KINDS[handler.request_streaming, handler.response_streaming](serve)

    def _unary_work(self, handler: Handler) -> Work:
        behaviour: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def work(request: Any, context: Context) -> bytes:
            incoming = self._incoming(handler, request)
            response = await behaviour(incoming, context)
            _check_complete(incoming)
            return self._outgoing(handler, response)

        return work

    def _streaming_work(self, handler: Handler) -> Work:
        behaviour: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def work(request: Any, context: Context) -> None:
            incoming = self._incoming(handler, request)
            async for response in behaviour(incoming, context):
                await context.write(self._outgoing(handler, response))
            _check_complete(incoming)

        return work

    def _incoming(self, handler: Handler, request: Any) -> Any:
        parse = handler.request_deserializer

        def received(data: bytes) -> Any:
            self._metrics.bytes_in.inc(len(data))
            try:
                return data if parse is None else parse(data)
            except DecodeError as error:
                raise InvalidInput(f"expected a request message, found bytes that are none: {error}") from None

        if handler.request_streaming:
            return RequestStream(aiter(request), received, self.streams)
        return received(request)

    def _outgoing(self, handler: Handler, response: Any) -> bytes:
        serialise = handler.response_serializer
        data: bytes = response if serialise is None else serialise(response)
        self._metrics.bytes_out.inc(len(data))
        return data

    async def _serve(self, name: str, work: Work, request: Any, context: Context) -> bytes | None:
        started = time.perf_counter()
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            self._admit()
            answer = await work(request, context)
            self._succeeded(name, context, started)
            return answer
        except asyncio.CancelledError:
            self._failed(name, "CANCELLED", "CANCELLED", "the client gave up", started)
            raise
        except grpc.aio.AbortError:
            code = grpc.StatusCode(context.code()).name
            self._failed(name, code, code, context.details(), started)
            raise
        except StagemeshError as error:
            await self._abort(name, error, context, started)
        except Exception as error:
            # A servicer's bug must answer this one call and leave the server serving.
            log.exception("%s raised", name)
            await self._abort(name, _as_failure(error), context, started)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)

    def _admit(self) -> None:
        if self._in_flight > self._max_in_flight:
            raise Overloaded(
                f"expected at most {self._max_in_flight} requests in flight, found one more",
                reason="TOO_MANY_IN_FLIGHT",
            )

    async def _abort(self, name: str, error: StagemeshError, context: Context, started: float) -> NoReturn:
        status = to_rpc_status(error, call_origin(self._identity))
        self._failed(name, status.code.name, status.reason, status.details, started)
        await context.abort(status.code, status.details, status.metadata)

    def _succeeded(self, name: str, context: Context, started: float) -> None:
        # A stream that the client cancels looks like one it ended.
        code = "CANCELLED" if context.cancelled() else "OK"
        self._metrics.requests_total(call_model.get(), code).inc()
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s %s in %.1f ms", name, code, 1e3 * (time.perf_counter() - started))

    def _failed(self, name: str, code: str, reason: str, details: str, started: float) -> None:
        model = "" if code == "NOT_FOUND" else call_model.get()
        self._metrics.requests_total(model, code).inc()
        self._metrics.failures_total(model, reason).inc()
        level = logging.ERROR if code == "INTERNAL" else logging.INFO
        log.log(level, "%s %s in %.1f ms: %s", name, code, 1e3 * (time.perf_counter() - started), details)


def _check_complete(incoming: Any) -> None:
    if isinstance(incoming, RequestStream):
        incoming.check_complete()


def _as_failure(error: Exception) -> StageFailed:
    return StageFailed(f"unexpected {type(error).__name__}: {error}", reason="UNEXPECTED")
