"""The HTTP side port of a server: /metrics, /livez and /readyz.

It runs in threads of its own, so it answers while the event loop is busy. A connection serves one
request, for a bounded time; of too many at once the oldest is closed, so stalled clients don't block it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from stagemesh.errors import ConfigError

CONNECTION_S = 5.0
MAX_CONNECTIONS = 64
_POLL_S = 0.1
_TEXT = "text/plain; charset=utf-8"


class _Handler(BaseHTTPRequestHandler):
    server: _HttpServer
    server_version = "stagemesh"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer /metrics, /livez and /readyz; any other path is 404."""
        status, content_type, body = self.server.side_port.answer(self.path.split("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes and scrapes come every few seconds."""


class _HttpServer(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, side_port: SidePort, host: str, port: int) -> None:
        self.side_port = side_port
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._open: deque[tuple[float, socket.socket]] = deque()
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.append((time.monotonic(), request))
        self._close_stalled()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        self._close_stalled()

    def _close_stalled(self) -> None:
        oldest_allowed = time.monotonic() - CONNECTION_S
        while self._open and (self._open[0][0] < oldest_allowed or len(self._open) > MAX_CONNECTIONS):
            with contextlib.suppress(OSError):  # answered and closed long since
                self._open.popleft()[1].shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore what goes wrong on one connection: the client left, or was closed for stalling."""


class SidePort:
    """Serves /metrics from `registry`, /livez, and /readyz from `is_ready`, over HTTP.

    Raises ConfigError where `host`:`port` can't be listened on; port 0 picks a free one.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, is_ready: Callable[[], bool]) -> None:
        self._registry = registry
        self._is_ready = is_ready
        try:
            self._server = _HttpServer(self, host.strip("[]"), port)
        except OSError as error:
            raise ConfigError(f"can't listen on {host}:{port} for HTTP: {error.strerror or error}") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="side-port", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port; blocks for about 0.1 s."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return HTTP status, content type and body for `path`."""
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        if path == "/livez":
            return 200, _TEXT, b"alive\n"
        if path == "/readyz":
            return (200, _TEXT, b"ready\n") if self._is_ready() else (503, _TEXT, b"not ready\n")
        return 404, _TEXT, b"expected /metrics, /livez or /readyz\n"
