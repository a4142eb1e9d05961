"""The HTTP side port: answers, refusals, and clients that stall."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from stagemesh.errors import ConfigError
from stagemesh.rpc import side_port
from stagemesh.rpc.side_port import MAX_CONNECTIONS, SidePort


class Ready:
    def __init__(self) -> None:
        self.value = False

    def __call__(self) -> bool:
        return self.value


@pytest.fixture
def ready() -> Ready:
    return Ready()


@pytest.fixture
def port(ready: Ready) -> Iterator[int]:
    registry = CollectorRegistry()
    Counter("things", "Things", registry=registry).inc()
    served = SidePort("127.0.0.1", 0, registry, ready)
    served.start()
    yield served.port
    served.close()


def ask(port: int, request: str = "GET / HTTP/1.1") -> str:
    """The whole answer to one request."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(f"{request}\r\nHost: x\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


def test_answers(port: int, ready: Ready) -> None:
    assert "200" in ask(port, "GET /livez HTTP/1.1").splitlines()[0]
    assert "503" in ask(port, "GET /readyz HTTP/1.1").splitlines()[0]
    ready.value = True
    assert "200" in ask(port, "GET /readyz?x=1 HTTP/1.1").splitlines()[0]
    assert "things_total 1.0" in ask(port, "GET /metrics HTTP/1.1")
    assert "404" in ask(port, "GET /etc/passwd HTTP/1.1").splitlines()[0]
    assert "501" in ask(port, "POST /metrics HTTP/1.1").splitlines()[0]
    assert "400" in ask(port, "nonsense")


def test_a_port_in_use_is_an_error_that_names_it(port: int, ready: Ready) -> None:
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port} for HTTP: Address already in use"):
        SidePort("127.0.0.1", port, CollectorRegistry(), ready)


def test_close_frees_the_port(ready: Ready) -> None:
    first = SidePort("127.0.0.1", 0, CollectorRegistry(), ready)
    first.start()
    assert "alive" in ask(first.port, "GET /livez HTTP/1.1")
    first.close()
    again = SidePort("127.0.0.1", first.port, CollectorRegistry(), ready)
    again.close()


def test_many_stalled_clients_do_not_hold_it_up(port: int) -> None:
    stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(3 * MAX_CONNECTIONS)]
    try:
        started = time.monotonic()
        assert "alive" in ask(port, "GET /livez HTTP/1.1")
        assert time.monotonic() - started < 15  # at once, but for a busy machine
        time.sleep(0.3)
        assert threading.active_count() < 2 * MAX_CONNECTIONS
    finally:
        for client in stalled:
            client.close()


def test_a_dripping_client_is_closed_in_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_port, "CONNECTION_S", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < 30:
                client.sendall(b"x")
                time.sleep(0.05)


def test_a_client_that_leaves_is_no_news(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert "alive" in ask(port, "GET /livez HTTP/1.1")
    assert capfd.readouterr().err == ""
