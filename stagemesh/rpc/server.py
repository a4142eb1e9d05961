"""One gRPC server of the mesh: its options, health, reflection, side port and the way it ends."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import Sequence
from dataclasses import replace

import grpc
from google.protobuf.descriptor_pool import DescriptorPool

from stagemesh.errors import ConfigError
from stagemesh.logs import rename_replica
from stagemesh.oip.open_inference_pb2 import POOL
from stagemesh.rpc import health
from stagemesh.rpc.channel import MIN_PING_INTERVAL_MS, Option, keepalive_options
from stagemesh.rpc.context import Identity
from stagemesh.rpc.interceptor import CallInterceptor
from stagemesh.rpc.reflection import enable_reflection
from stagemesh.rpc.side_port import SidePort
from stagemesh.settings import ServiceSettings
from stagemesh.telemetry import Metrics

_NO_LIMIT_MS = 2**31 - 1
_NO_LIMIT_CALLS = 100_000

log = logging.getLogger(__name__)


def server_options(settings: ServiceSettings) -> list[Option]:
    """Return the options of a gRPC server that runs with `settings`."""
    return [
        *keepalive_options(),
        # gRPC holds both a message and what a compressed one expands to against this limit.
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Beyond 1,000 calls that wait to be accepted gRPC cancels some at random, with no word to anyone: the
        # interceptor refuses them instead, and says why.
        ("grpc.server.max_pending_requests", _NO_LIMIT_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _NO_LIMIT_CALLS),
        # By default a second server binds the same port silently and takes a share of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        # Clients look for new addresses only when a connection ends; gRPC spreads the age by ± 10 %.
        ("grpc.max_connection_age_ms", round(settings.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", _NO_LIMIT_MS),
    ]


class Server:
    """Serves `handlers` with health, reflection and a side port; not ready until told so.

    After `start` the attributes `port` and `http_port` hold the bound ports.
    """

    def __init__(
        self,
        identity: Identity,
        settings: ServiceSettings,
        metrics: Metrics,
        handlers: Sequence[grpc.GenericRpcHandler],
        pool: DescriptorPool = POOL,
    ) -> None:
        self.port = settings.port
        self.http_port = settings.http_port
        self._identity = identity
        self._settings = settings
        self._metrics = metrics
        self._handlers = handlers
        self._pool = pool
        self._names = [_name(handler) for handler in handlers]
        self._health = health.Health("", *self._names)
        self._ready = False
        self._draining = False
        self._interceptor = CallInterceptor(
            identity,
            metrics,
            max_in_flight=settings.max_in_flight,
            default_deadline_s=settings.default_deadline_s,
            stream_idle_s=settings.stream_idle_s,
        )
        self._server: grpc.aio.Server | None = None
        self._side_port: SidePort | None = None

    @property
    def ready(self) -> bool:
        """Whether balancers are told to send requests."""
        return self._ready

    async def start(self) -> None:
        """Listen on both ports. Raises ConfigError naming the address that can't be listened on."""
        settings = self._settings
        self._side_port = SidePort(settings.host, settings.http_port, self._metrics.registry, lambda: self._ready)
        self.http_port = self._side_port.port
        server = grpc.aio.server(interceptors=[self._interceptor], options=server_options(settings))
        server.add_generic_rpc_handlers((*self._handlers, self._health.handler()))
        enable_reflection(server, self._names, self._pool)
        try:
            self.port = _bind(server, settings.host, settings.port)
        except ConfigError:
            self._side_port.close()
            raise
        await server.start()
        self._side_port.start()
        self._server = server
        self._name_replica()
        self._announce()

    def _name_replica(self) -> None:
        """Complete a name that the settings made of host and port, as the port may be a free one picked just now."""
        if self._identity.replica == self._settings.replica_name:
            self._identity.replica = replace(self._settings, port=self.port).replica_name
            rename_replica(self._identity.replica)

    def _announce(self) -> None:
        host, stage = self._settings.host, self._settings.stage
        if not _is_loopback(host):
            log.warning("listening on %s without TLS: anyone who reaches it can call it", host)
        log.info("%s listens on %s:%d, HTTP on %d", stage, host, self.port, self.http_port)

    def set_ready(self, ready: bool) -> None:
        """Tell balancers, probes and watchers whether to send requests; a draining server stays unready."""
        ready = ready and not self._draining
        if ready != self._ready:
            log.info("ready" if ready else "not ready")
        self._ready = ready
        self._health.set_ready(ready)

    async def drain(self) -> None:
        """Become NOT_SERVING, wait for clients to notice, then stop once the requests in flight are done."""
        self._draining = True
        self.set_ready(False)
        log.info("draining")
        await asyncio.sleep(self._settings.drain_s)
        self._health.close()
        self._interceptor.streams.end()
        await self.stop(self._settings.default_deadline_s)

    async def stop(self, grace_s: float | None = None) -> None:
        """Refuse new calls, give those in flight `grace_s` seconds, cancel the rest, free both ports."""
        if self._server is not None:
            await self._stop_calls(self._server, grace_s)
        if self._side_port is not None:
            await asyncio.to_thread(self._side_port.close)
            self._side_port = None
            log.info("stopped")

    async def _stop_calls(self, server: grpc.aio.Server, grace_s: float | None) -> None:
        if not grace_s:
            self._interceptor.stopping()
        cancelling = asyncio.get_running_loop().call_later(grace_s or 0, self._interceptor.stopping)
        await server.stop(grace_s)
        cancelling.cancel()

    async def serve_until_signal(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second signal stops at once."""
        signals: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signals.put_nowait, number.name)
        log.info("received %s", await signals.get())
        drain, second = asyncio.create_task(self.drain()), asyncio.create_task(signals.get())
        await asyncio.wait((drain, second), return_when=asyncio.FIRST_COMPLETED)
        if drain.done():
            second.cancel()
            await drain
        else:
            log.warning("received %s again: stopping at once", second.result())
            drain.cancel()
            await self.stop()


def _name(handler: grpc.GenericRpcHandler) -> str:
    if not isinstance(handler, grpc.ServiceRpcHandler):
        raise TypeError(f"expected a handler of a named service, found {type(handler).__name__}")
    return str(handler.service_name())


def _bind(server: grpc.aio.Server, host: str, port: int) -> int:
    bare = host.strip("[]")
    try:
        # gRPC keeps the system's word on a failure to itself, so a plain socket asks first.
        with socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((bare, port))
        return server.add_insecure_port(f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}")
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"can't listen on {host}:{port} for gRPC: {reason}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
