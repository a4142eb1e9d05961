"""grpc.health.v1 for one server.

grpcio's own asyncio servicer forgets the watchers of a service when one of them leaves, and waits for
slow watchers when a status is set; clients that balance by health depend on neither happening.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

SERVICE_NAME = "grpc.health.v1.Health"
LIVENESS = "liveness"

_Status = health_pb2.HealthCheckResponse


class Health:
    """Answers Check and Watch; service `liveness` is always SERVING, `names` are as ready as told."""

    def __init__(self, *names: str) -> None:
        self._status = dict.fromkeys(names, _Status.NOT_SERVING) | {LIVENESS: _Status.SERVING}
        self._names = names
        self._watchers: set[asyncio.Event] = set()
        self._closed = False

    def set_ready(self, ready: bool) -> None:
        """Set the status of the names and wake all who watch."""
        self._status.update(dict.fromkeys(self._names, _Status.SERVING if ready else _Status.NOT_SERVING))
        self._wake()

    def close(self) -> None:
        """End all Watch calls, so that they don't hold up a server that stops."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for changed in self._watchers:
            changed.set()

    async def check(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """Return the status of the asked service; NOT_FOUND for one that is not known."""
        if request.service not in self._status:
            known = ", ".join(map(repr, self._status))
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"expected one of the services {known}, found {request.service!r}"
            )
        return _Status(status=self._status[request.service])

    async def watch(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        """Yield the status of the asked service now and whenever it changes."""
        changed, last = asyncio.Event(), None
        self._watchers.add(changed)
        try:
            while not self._closed:
                changed.clear()
                status = self._status.get(request.service, _Status.SERVICE_UNKNOWN)
                if status != last:
                    yield _Status(status=status)
                    last = status
                await changed.wait()
        finally:
            self._watchers.discard(changed)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler to add to a server."""
        codec = {
            "request_deserializer": health_pb2.HealthCheckRequest.FromString,
            "response_serializer": _Status.SerializeToString,
        }
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, **codec),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, **codec),
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)
