"""A stage is ready when it serves what it was told to serve, and not before."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stagemesh import Client, RemoteFailure
from tests.mesh.processes import ServiceProcess, running
from tests.mesh.repositories import add_model, edit_model

pytestmark = pytest.mark.xdist_group("readiness")

WRONG, RIGHT = "plugins.py:Gone", "plugins.py:Before"
Start = Callable[..., ServiceProcess]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two models, of which `bad` can't be loaded."""
    add_model(tmp_path, "puppet", "good")
    edit_model(add_model(tmp_path, "puppet", "bad"), RIGHT, WRONG)
    return tmp_path


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts services that end with the test."""
    services = []

    def started(stage: str, **settings: object) -> ServiceProcess:
        services.append(ServiceProcess(stage, **settings))
        services[-1].wait_listening()
        return services[-1]

    yield started
    for service in services:
        service.close()


def says(service: ServiceProcess) -> tuple[bool, bool]:
    """Whether it is ready, by ServerReady and by its health."""
    with grpc.insecure_channel(service.target) as channel, Client(service.target) as client:
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status
        return client.ready(), status == health_pb2.HealthCheckResponse.SERVING


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_refused(service: ServiceProcess, *names: str) -> None:
    """Return once the service has said that it is not ready for want of these models."""
    words = re.compile(rf" ERROR .* not ready until these models are served: {', '.join(names)}$", re.MULTILINE)
    wait_for(lambda: words.search(service.log()))
    assert says(service) == (False, False)


def test_each_named_model_is_needed(models: Path, start: Start) -> None:
    stage = start("preprocess", models=models, model_names="good,bad")
    wait_refused(stage, "bad")
    edit_model(models / "bad", WRONG, RIGHT)
    with Client(stage.target) as client:
        client.load_model("good")
        assert says(stage) == (False, False)
        client.load_model("bad")
        wait_for(lambda: says(stage) == (True, True))
        client.unload_model("bad")
        assert says(stage) == (True, True), "what is unloaded on purpose is not missing"


def test_a_model_that_has_no_part_for_the_stage_is_not_needed(models: Path, start: Start) -> None:
    toml = models / "bad" / "model.toml"
    toml.write_text(toml.read_text().replace("[preprocess]", "[postprocess]", 1).partition("[infer]")[0])
    stage = start("preprocess", models=models, model_names="good,bad")
    wait_for(lambda: says(stage) == (True, True))


def test_without_names_one_model_is_enough(models: Path, start: Start) -> None:
    stage = start("preprocess", models=models)
    wait_for(lambda: says(stage) == (True, True))
    with Client(stage.target) as client:
        assert {model.name: model.state for model in client.models()} == {"good": "READY", "bad": "UNAVAILABLE"}


def test_an_empty_repository_is_served(tmp_path: Path, start: Start) -> None:
    stage = start("preprocess", models=tmp_path)
    wait_for(lambda: says(stage) == (True, True))


def test_a_load_through_the_gateway_reaches_a_stage_that_is_not_ready(models: Path, start: Start) -> None:
    edit_model(models / "good", RIGHT, WRONG)
    stage = start("preprocess", models=models)
    wait_refused(stage, "bad", "good")
    targets = dict.fromkeys(("preprocess_target", "infer_target", "postprocess_target"), stage.ipv4)
    gateway = start("gateway", models=models, **targets)
    with Client(gateway.target) as client:
        with pytest.raises(RemoteFailure, match=r"expected 'Gone' in plugins\.py"):
            client.load_model("bad")
        edit_model(models / "bad", WRONG, RIGHT)
        client.load_model("bad")
    wait_for(lambda: says(stage) == (True, True))


def test_a_server_that_drains_is_not_ready(models: Path) -> None:
    stage = ServiceProcess("preprocess", models=models, drain_s=2)
    with running(stage):
        assert says(stage) == (True, True)
        stage.process.send_signal(signal.SIGTERM)
        wait_for(lambda: says(stage) == (False, False))
        assert stage.process.wait(10) == 0
