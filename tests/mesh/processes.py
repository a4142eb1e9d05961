"""Real services as real processes, on free ports, for the tests that go through the front door."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.service import OipStub

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
START_S = 90
_LISTENS = re.compile(r"listens on (?P<host>\S+):(?P<port>\d+), HTTP (?:on )?(?P<http>\d+)")


class ServiceProcess:
    """One `python -m services.STAGE`; port 0 lets it pick free ports, `host` may be any loopback address."""

    def __init__(
        self,
        stage: str,
        *,
        models: Path = MODELS,
        host: str = "127.0.0.1",
        port: int = 0,
        env: Mapping[str, str] = {},
        **settings: object,
    ) -> None:
        """`settings` are flags of the service: `infer_target="ipv4:…"`, `drain_s=0.2`.

        Of the demo repository only `classify` is served where `model_names` names no others.
        """
        if models == MODELS:
            settings.setdefault("model_names", "classify")
        self.stage = stage
        self.host = host
        flags = {"host": host, "port": port, "http_port": 0, "models": models, **settings}
        self._command = [sys.executable, "-m", f"services.{stage}"]
        for name, value in flags.items():
            self._command += [f"--{name.replace('_', '-')}", str(value)]
        self._env = {**os.environ, "STAGEMESH_THREADS": "1", "STAGEMESH_DRAIN_S": "0.5", **env}
        self._log = Path(tempfile.mkstemp(prefix=f"{stage}-", suffix=".log")[1])
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._env, stdout=log, stderr=subprocess.STDOUT
            )

    def log(self) -> str:
        """All it has printed."""
        return self._log.read_text(errors="replace")

    def wait_listening(self) -> None:
        """Return once its ports are known; fails with its log when it ends instead."""
        self.port, self.http_port = (int(self._wait_for(_LISTENS).group(name)) for name in ("port", "http"))

    def wait_ready(self) -> None:
        """Return once it is READY."""
        self.wait_listening()
        self._wait_for(re.compile(r"(?<!not )\bready: "))

    @property
    def target(self) -> str:
        """Its gRPC address, host:port."""
        return f"{self.host}:{self.port}"

    @property
    def ipv4(self) -> str:
        """Its address as a gRPC target of the ipv4 scheme."""
        return f"ipv4:{self.target}"

    def rss(self) -> int:
        """Its resident memory in bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def statistics(self, model: str) -> pb.ModelStatistics:
        """What ModelStatistics says of a model there."""
        with grpc.insecure_channel(self.target) as channel:
            request = pb.ModelStatisticsRequest(name=model)
            return OipStub(channel).ModelStatistics(request, timeout=10).model_stats[0]

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait(10)

    def terminate(self, timeout_s: float = 30) -> int:
        """SIGTERM, wait for the drain; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        """End it, however it stands, and remove its log."""
        if self.process.poll() is None:
            self.kill()
        self._log.unlink(missing_ok=True)

    def _wait_for(self, pattern: re.Pattern[str]) -> re.Match[str]:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if found := pattern.search(self.log()):
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"{self.stage} (exit {self.process.poll()}) never said {pattern.pattern}:\n{self.log()}")


@dataclass(frozen=True)
class Mesh:
    """A running mesh; `infer` holds its replicas."""

    gateway: ServiceProcess
    preprocess: ServiceProcess
    infer: Sequence[ServiceProcess]
    postprocess: ServiceProcess

    @property
    def target(self) -> str:
        """The gateway's address."""
        return self.gateway.target


@contextmanager
def running(*services: ServiceProcess) -> Iterator[None]:
    """Wait until all are ready; end them with the block."""
    with ExitStack() as stack:
        for service in services:
            stack.callback(service.close)
        for service in services:
            service.wait_ready()
        yield


@contextmanager
def running_mesh(*, models: Path = MODELS, infer_replicas: int = 1, **settings: object) -> Iterator[Mesh]:
    """A whole mesh; `settings` go to every service."""
    post = ServiceProcess("postprocess", models=models, **settings)
    infer: list[ServiceProcess] = []
    with ExitStack() as stack:
        stack.enter_context(running(post))
        onward = {"postprocess_target": post.ipv4}
        infer = [ServiceProcess("infer", models=models, **onward, **settings) for _ in range(infer_replicas)]
        stack.enter_context(running(*infer))
        onward["infer_target"] = "ipv4:" + ",".join(replica.target for replica in infer)
        pre = ServiceProcess("preprocess", models=models, **onward, **settings)
        stack.enter_context(running(pre))
        gateway = ServiceProcess("gateway", models=models, preprocess_target=pre.ipv4, **onward, **settings)
        stack.enter_context(running(gateway))
        yield Mesh(gateway, pre, infer, post)
