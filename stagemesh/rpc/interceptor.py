"""What happens around every call: its context, its metrics, its log line, and errors as statuses.

Wrapped handlers take and give bytes: messages are parsed and serialised in here, so that a malformed
message is the caller's error and bytes are counted for every method.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from stagemesh.errors import InvalidInput, StagemeshError
from stagemesh.oip.service import PROBES
from stagemesh.rpc.context import Identity, enter_call
from stagemesh.rpc.requests import Context, Requests
from stagemesh.rpc.status import call_origin, to_rpc_status
from stagemesh.rpc.streams import STREAMS_PER_PLACE, OpenStreams, RequestStream
from stagemesh.telemetry import Metrics

# A string, as only the stubs of gRPC know this class as generic.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Work = Callable[[Any, Context], Awaitable[bytes | None]]

_KINDS: dict[tuple[bool, bool], Callable[[Any], Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


@dataclass(frozen=True, slots=True)
class _Call:
    """What serves an RPC; `placed` says whether a call of it counts as one request in flight from start to end."""

    name: str
    work: Work
    placed: bool


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of one server, apart from the `grpc.*` ones (health, reflection).

    A handler is a coroutine function or, where it answers a stream, returns an async iterator. It runs
    with `call_context` set and may raise any StagemeshError. At most `max_in_flight` requests are answered at
    once, probes apart; an open stream is none by itself, and ends once it is idle for `stream_idle_s`. A call of
    one request gets `default_deadline_s` where the client set no deadline.
    """

    def __init__(
        self,
        identity: Identity,
        metrics: Metrics,
        *,
        max_in_flight: int,
        default_deadline_s: float,
        stream_idle_s: float,
    ) -> None:
        self._identity = identity
        self._metrics = metrics
        self._default_deadline_s = default_deadline_s
        self._requests = Requests(identity, metrics, max_in_flight)
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}
        self.streams = OpenStreams(self._requests, limit=STREAMS_PER_PLACE * max_in_flight, idle_s=stream_idle_s)

    def stopping(self) -> None:
        """Say that calls cancelled from now on are so by the server."""
        self._requests.stopping = True

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
            known = self._wrapped[method] = (handler, self._wrap(handler, method))
        return known[1]

    def _wrap(self, handler: Handler, method: str) -> Handler:
        name = method.rpartition("/")[2]
        work = self._streaming_work(handler, name) if handler.response_streaming else self._unary_work(handler, name)
        call = _Call(name, work, placed=not handler.request_streaming and method not in PROBES)
        default_s = None if handler.request_streaming else self._default_deadline_s

        async def serve(request: Any, context: Context) -> bytes | None:
            seconds = context.time_remaining()
            enter_call(context.invocation_metadata() or (), default_s if seconds is None else seconds)
            return await self._serve(call, request, context)

        return _KINDS[handler.request_streaming, handler.response_streaming](serve)

    def _unary_work(self, handler: Handler, name: str) -> Work:
        behaviour: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def work(request: Any, context: Context) -> bytes:
            with self._incoming(handler, name, request) as incoming:
                response = await behaviour(incoming, context)
            return self._outgoing(handler, response)

        return work

    def _streaming_work(self, handler: Handler, name: str) -> Work:
        behaviour: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def work(request: Any, context: Context) -> None:
            with self._incoming(handler, name, request) as incoming:
                async for response in behaviour(incoming, context):
                    await context.write(self._outgoing(handler, response))

        return work

    @contextmanager
    def _incoming(self, handler: Handler, name: str, request: Any) -> Iterator[Any]:
        """What the behaviour of an RPC is given: the parsed request, or the stream of them, kept for the block."""
        parse = handler.request_deserializer

        def received(data: bytes) -> Any:
            self._metrics.bytes_in.inc(len(data))
            try:
                return data if parse is None else parse(data)
            except DecodeError as error:
                raise InvalidInput(f"expected a request message, found bytes that are none: {error}") from None

        if not handler.request_streaming:
            yield received(request)
            return
        whole = not handler.response_streaming
        stream = RequestStream(name, request, received, self.streams, whole=whole)
        with self.streams.serving(stream):
            yield stream
            stream.check_complete()

    def _outgoing(self, handler: Handler, response: Any) -> bytes:
        serialise = handler.response_serializer
        data: bytes = response if serialise is None else serialise(response)
        self._metrics.bytes_out.inc(len(data))
        return data

    async def _serve(self, call: _Call, request: Any, context: Context) -> bytes | None:
        try:
            with self._requests.answered(call.name, context, placed=call.placed):
                return await call.work(request, context)
        except StagemeshError as error:
            status = to_rpc_status(error, call_origin(self._identity))
            await context.abort(status.code, status.details, status.metadata)
