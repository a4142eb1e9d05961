"""Replicas that die, leave, come back and join while requests are in flight."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from stagemesh import AsyncClient
from stagemesh.errors import RemoteFailure, StagemeshError, Unavailable
from tests.mesh.processes import Mesh, ServiceProcess, running, running_mesh
from tests.mesh.repositories import add_model, blocks_photo, sleep_in_net
from tests.rpc.tiny_dns import TinyDns

IN_FLIGHT = 200
BUSY = 30
JOIN_S = 60
MODEL = "blocks"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository whose network takes 0.15 s for a batch, so that its queue is full of requests."""
    sleep_in_net(add_model(tmp_path, MODEL), 0.15)
    return tmp_path


@pytest.fixture
def two_replicas(models: Path) -> Iterator[Mesh]:
    with running_mesh(models=models, infer_replicas=2) as mesh:
        yield mesh


async def ask(client: AsyncClient, index: int) -> None:
    """Send photo `index`; fails unless the answer is the one of that photo."""
    photo, class_ids, scores = blocks_photo(index)
    result = await client.infer_image(MODEL, photo)
    assert result["class_ids"].tolist() == [class_ids.tolist()]
    np.testing.assert_allclose(result["scores"], [scores], rtol=1e-4)


def in_flight(service: ServiceProcess) -> int:
    """How many requests a service is serving, by its metrics."""
    with urlopen(f"http://{service.host}:{service.http_port}/metrics", timeout=10) as answer:
        found = re.search(r"^stagemesh_in_flight\S* (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found
    return int(float(found[1]))


def wait_until_busy(service: ServiceProcess) -> None:
    """Return once the service holds BUSY requests."""
    deadline = time.monotonic() + 20
    while (found := in_flight(service)) < BUSY:
        assert time.monotonic() < deadline, f"expected {BUSY} requests in flight, found {found}"
        time.sleep(0.01)


async def under_load(mesh: Mesh, disturb: Callable[[], Awaitable[None]]) -> None:
    """Have IN_FLIGHT requests on their way, disturb them, and see each get its own right answer."""
    async with AsyncClient(mesh.target) as client:
        asked = [asyncio.create_task(ask(client, index)) for index in range(IN_FLIGHT)]
        await asyncio.to_thread(wait_until_busy, mesh.infer[0])
        await disturb()
        failures = [result for result in await asyncio.gather(*asked, return_exceptions=True) if result]
    assert failures == []


async def until_computing(client: AsyncClient, replica: ServiceProcess) -> float:
    """Send requests until `replica` computes some of them; the seconds it took."""
    started = time.monotonic()
    index = 0
    while not replica.statistics(MODEL).inference_count:
        assert time.monotonic() - started < JOIN_S, "the new replica got no request in time"
        await asyncio.gather(*(ask(client, index + n) for n in range(6)))
        index += 6
        await asyncio.sleep(0.5)
    return time.monotonic() - started


async def test_a_killed_replica_costs_no_request(two_replicas: Mesh) -> None:
    async def kill() -> None:
        two_replicas.infer[0].kill()

    await under_load(two_replicas, kill)
    assert two_replicas.infer[1].statistics(MODEL).inference_count >= IN_FLIGHT // 2 + BUSY // 2


async def test_a_replica_that_drains_costs_no_request(two_replicas: Mesh) -> None:
    codes: list[int] = []

    async def terminate() -> None:
        codes.append(await asyncio.to_thread(two_replicas.infer[0].terminate))

    await under_load(two_replicas, terminate)
    assert codes == [0]


def free_port(*hosts: str) -> int:
    """A port that is free on all of these addresses."""
    with ExitStack() as stack:
        port = 0
        for host in hosts:
            port = stack.enter_context(socket.create_server((host, port))).getsockname()[1]
        return port


async def test_a_replica_started_at_a_listed_address_is_used(models: Path) -> None:
    port = free_port("127.0.0.1")
    with ExitStack() as stack:
        post = ServiceProcess("postprocess", models=models)
        stack.enter_context(running(post))
        first = ServiceProcess("infer", models=models, postprocess_target=post.ipv4)
        stack.enter_context(running(first))
        targets = {"infer_target": f"ipv4:{first.target},127.0.0.1:{port}", "postprocess_target": post.ipv4}
        pre = ServiceProcess("preprocess", models=models, **targets)
        stack.enter_context(running(pre))
        gateway = ServiceProcess("gateway", models=models, preprocess_target=pre.ipv4, **targets)
        stack.enter_context(running(gateway))
        async with AsyncClient(gateway.target) as client:
            await asyncio.gather(*(ask(client, index) for index in range(6)))
            late = ServiceProcess("infer", models=models, port=port, postprocess_target=post.ipv4)
            stack.enter_context(running(late))
            print(f"the listed replica computed after {await until_computing(client, late):.1f} s")


async def test_a_replica_whose_address_a_name_gains_is_used(models: Path) -> None:
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
    port = free_port(*hosts)
    with TinyDns(*hosts[:2]) as dns, ExitStack() as stack:
        post = ServiceProcess("postprocess", models=models)
        stack.enter_context(running(post))
        infer = [
            ServiceProcess("infer", models=models, host=host, port=port, postprocess_target=post.ipv4) for host in hosts
        ]
        stack.enter_context(running(*infer))
        targets = {"infer_target": f"dns://127.0.0.1:{dns.port}/infer.test:{port}", "postprocess_target": post.ipv4}
        pre = ServiceProcess("preprocess", models=models, **targets)
        stack.enter_context(running(pre))
        gateway = ServiceProcess("gateway", models=models, preprocess_target=pre.ipv4, **targets)
        stack.enter_context(running(gateway))
        async with AsyncClient(gateway.target) as client:
            for known in infer[:2]:
                await until_computing(client, known)
            assert infer[2].statistics(MODEL).inference_count == 0
            dns.addresses = hosts
            waited = await until_computing(client, infer[2])
            print(f"the new address computed after {waited:.1f} s and {dns.questions} questions")


async def test_the_only_preprocess_dies_and_comes_back(models: Path) -> None:
    with running_mesh(models=models) as mesh:
        async with AsyncClient(mesh.target) as client:
            await ask(client, 0)
            mesh.preprocess.kill()
            started = time.monotonic()
            with pytest.raises(StagemeshError) as caught:
                await ask(client, 1)
            waited = time.monotonic() - started
            failure = caught.value
            assert isinstance(failure, Unavailable) or (
                isinstance(failure, RemoteFailure) and failure.status == "UNAVAILABLE"
            )
            assert "stage 'preprocess'" in str(failure)
            print(f"UNAVAILABLE after {waited:.2f} s")
            # Some tenths of a second, but many times that on a busy machine; the client's deadline is 60 s.
            assert waited < 30
            again = ServiceProcess(
                "preprocess",
                models=models,
                port=mesh.preprocess.port,
                infer_target=mesh.infer[0].ipv4,
                postprocess_target=mesh.postprocess.ipv4,
            )
            with running(again):
                started = time.monotonic()
                await ask(client, 2)
                print(f"served again {time.monotonic() - started:.2f} s after it was ready")
