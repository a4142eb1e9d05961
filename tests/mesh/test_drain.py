"""How a stage leaves and arrives: signals, health, readiness, metrics."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stagemesh import AsyncClient
from stagemesh.client.answers import InferResult
from stagemesh.errors import RemoteFailure
from stagemesh.oip.messages import InferRequest
from stagemesh.oip.service import OipStub
from stagemesh.oip.tensors import Tensor
from tests.mesh.processes import ServiceProcess, running
from tests.mesh.repositories import add_model, computed, puppet_image

DRAIN_S = 3
"""Long enough for a slow machine to see the stage between the signal and the closing of the port."""
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository of which these tests use one stage, without any network."""
    add_model(tmp_path, "puppet")
    return tmp_path


@pytest.fixture
def stage(models: Path) -> Iterator[ServiceProcess]:
    """A preprocess stage, alone."""
    service = ServiceProcess("preprocess", models=models, model_names="puppet", workers=1, drain_s=DRAIN_S)
    with running(service):
        yield service


async def order(client: AsyncClient, number: int, ms: int = 0) -> InferResult:
    """A request that preprocess computes for `ms` milliseconds."""
    result = await client.infer("puppet", puppet_image(number), parameters={"preprocess_ms": ms})
    assert result["image"][0, 0, 0, 0] == number
    return result


def http(service: ServiceProcess, path: str) -> tuple[int, str]:
    """Status and body of a path of the side port."""
    try:
        with urlopen(f"http://{service.host}:{service.http_port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


async def until_computed(folder: Path, number: int) -> None:
    """Return once preprocess has begun request `number`."""
    async with asyncio.timeout(10):
        while number not in computed(folder, "preprocess"):
            await asyncio.sleep(0.01)


async def test_sigterm_lets_requests_in_flight_and_queued_finish(stage: ServiceProcess, models: Path) -> None:
    async with AsyncClient(stage.target) as client:
        waiting = [asyncio.create_task(order(client, number, 800)) for number in (1, 2, 3)]
        await until_computed(models / "puppet", 1)
        code = asyncio.create_task(asyncio.to_thread(stage.terminate))
        await asyncio.gather(*waiting)
        assert await code == 0
    assert sorted(computed(models / "puppet", "preprocess")) == [1, 2, 3]


async def test_requests_go_elsewhere_during_a_drain(stage: ServiceProcess, models: Path) -> None:
    other = ServiceProcess("preprocess", models=models, model_names="puppet")
    with running(other):
        async with AsyncClient(f"ipv4:{stage.target},{other.target}") as client:
            while not all(service.statistics("puppet").inference_count for service in (stage, other)):
                await order(client, 1)
            seen = stage.statistics("puppet").inference_count
            code = asyncio.create_task(asyncio.to_thread(stage.terminate))
            await asyncio.sleep(0.3)
            assert not code.done()
            for number in range(20):
                await order(client, number)
            assert stage.statistics("puppet").inference_count == seen
            assert other.statistics("puppet").inference_count >= 20
            assert await code == 0


async def test_watchers_hear_it_first_then_the_port_closes(stage: ServiceProcess) -> None:
    async with grpc.aio.insecure_channel(stage.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        assert http(stage, "/readyz")[0] == 200
        stage.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert (await watch.read()).status == NOT_SERVING
        assert stage.process.poll() is None
        assert http(stage, "/readyz")[0] == 503
        assert http(stage, "/livez")[0] == 200
        assert await asyncio.to_thread(stage.process.wait, 10) == 0
        assert time.monotonic() - started > 0.9 * DRAIN_S


async def test_a_second_sigterm_stops_at_once(stage: ServiceProcess, models: Path) -> None:
    async with AsyncClient(stage.target) as client:
        waiting = asyncio.create_task(order(client, 1, 20_000))
        await until_computed(models / "puppet", 1)
        stage.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        started = time.monotonic()
        stage.process.send_signal(signal.SIGTERM)
        results = await asyncio.gather(waiting, return_exceptions=True)
        heard = time.monotonic() - started
        await asyncio.to_thread(stage.process.wait, 10)
        print(f"second SIGTERM: the client heard after {heard:.2f} s, exit after {time.monotonic() - started:.2f} s")
        assert isinstance(results[0], Exception)
        assert heard < 15  # long before the request would have been served


def test_a_model_that_still_loads(tmp_path: Path) -> None:
    folder = add_model(tmp_path, "waiting")
    service = ServiceProcess("preprocess", models=tmp_path)
    number = InferRequest("waiting", {"number": Tensor.from_numpy(np.array([7], np.float32))}).encode()
    with ExitStack() as stack:
        stack.callback(service.close)
        service.wait_listening()
        channel = stack.enter_context(grpc.insecure_channel(service.target))
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == NOT_SERVING
        assert health.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=5).status == SERVING
        assert http(service, "/readyz")[0] == 503
        with pytest.raises(grpc.RpcError) as caught:
            OipStub(channel).ModelInfer(number, timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "model 'waiting' is not ready: it is still loading" in caught.value.details()
        (folder / "go").touch()
        assert next(watch).status == SERVING
        assert OipStub(channel).ModelInfer(number, timeout=5)


async def test_a_stage_stopped_while_it_loads_stops(tmp_path: Path) -> None:
    folder = add_model(tmp_path, "waiting")
    service = ServiceProcess("preprocess", models=tmp_path)
    with ExitStack() as stack:
        stack.callback(service.close)
        service.wait_listening()
        service.process.send_signal(signal.SIGTERM)
        (folder / "go").touch()
        assert await asyncio.to_thread(service.process.wait, 10) == 0


async def test_metrics_by_their_names(stage: ServiceProcess) -> None:
    async with AsyncClient(stage.target) as client:
        await order(client, 1)
        with pytest.raises(RemoteFailure):
            await client.infer("puppet", {"image": np.zeros(3, np.uint8)})
    text = http(stage, "/metrics")[1]
    labels = 'model="puppet",stage="preprocess"'
    for name in ("queue_seconds", "compute_seconds", "batch_size"):
        assert f"stagemesh_{name}_count{{{labels}}} 1.0" in text
    assert f'stagemesh_requests_total{{code="OK",{labels}}} 1.0' in text
    assert f'stagemesh_requests_total{{code="INVALID_ARGUMENT",{labels}}} 1.0' in text
    assert 'stagemesh_failures_total{model="puppet",reason="INVALID_INPUT",stage="preprocess"} 1.0' in text
    assert 'stagemesh_in_flight{stage="preprocess"} 0.0' in text
    for direction in ("in", "out"):
        assert re.search(rf'^stagemesh_bytes_total{{direction="{direction}",stage="preprocess"}} \d', text, re.M)
