"""Deadlines, cancellation, queue timeouts and priorities, from the front door to the last stage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from stagemesh import AsyncClient
from stagemesh.client.answers import InferResult
from stagemesh.errors import DeadlineExceeded, RemoteFailure, StagemeshError
from stagemesh.oip.messages import InferResponse
from stagemesh.oip.service import SERVICE_NAME
from stagemesh.oip.tensors import Parameter, Tensor
from tests.mesh.processes import Mesh, ServiceProcess, running, running_mesh
from tests.mesh.repositories import add_model, computed, puppet_image

pytestmark = pytest.mark.xdist_group("deadlines")

STAGES = ("preprocess", "infer", "postprocess")
SLOW_MS = 1000
DEADLINE_S = 0.05
NOTICED_S = 0.15
QUEUED = 5


@dataclass(frozen=True)
class Puppets:
    """A mesh that serves `puppet` one request at a time, and the folder where it writes what it computes."""

    mesh: Mesh
    folder: Path

    def numbers(self, stage: str) -> list[int]:
        """The requests that a stage has computed."""
        return computed(self.folder, stage)

    def arrived(self, stage: str) -> int:
        """How many requests came to a stage, served or failed."""
        service = self.mesh.infer[0] if stage == "infer" else getattr(self.mesh, stage)
        spans = service.statistics("puppet").inference_stats
        return int(spans.success.count + spans.fail.count)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    add_model(repository, "puppet")
    return repository


@pytest.fixture(scope="module")
def module_puppets(models: Path) -> Iterator[Puppets]:
    with running_mesh(models=models, workers=1) as mesh:
        yield Puppets(mesh, models / "puppet")


@pytest.fixture
def puppets(module_puppets: Puppets) -> Puppets:
    """The mesh, with nothing in its logs."""
    (module_puppets.folder / "computed.log").unlink(missing_ok=True)
    return module_puppets


async def order(
    client: AsyncClient,
    number: int,
    *,
    slow: str = "",
    ms: int = SLOW_MS,
    deadline_s: float = 30,
    **parameters: Parameter,
) -> InferResult:
    """Send request `number`; the stage `slow` takes `ms` milliseconds for it."""
    image = puppet_image(number, infer_ms=ms if slow == "infer" else 0)
    if slow in ("preprocess", "postprocess"):
        parameters[f"{slow}_ms"] = ms
    result = await client.infer("puppet", image, parameters=parameters, deadline_s=deadline_s)
    assert result["number"].tolist() == [number]
    return result


async def occupy(puppets: Puppets, client: AsyncClient, stage: str, ms: int = SLOW_MS) -> asyncio.Task[InferResult]:
    """Make a stage busy with request 1 for `ms` milliseconds; returns once it computes it."""
    occupant = asyncio.create_task(order(client, 1, slow=stage, ms=ms))
    async with asyncio.timeout(10):
        while puppets.numbers(stage) != [1]:
            await asyncio.sleep(0.005)
    return occupant


def is_deadline(error: BaseException) -> bool:
    status = error.status if isinstance(error, RemoteFailure) else getattr(error, "code", "")
    return status == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("stage", STAGES)
async def test_the_client_of_a_slow_stage_hears_in_time(puppets: Puppets, stage: str) -> None:
    async with AsyncClient(puppets.mesh.target) as client:
        await order(client, 1)
        waits = []
        for number in (2, 3, 4):
            started = time.monotonic()
            with pytest.raises(StagemeshError) as caught:
                await order(client, number, slow=stage, deadline_s=DEADLINE_S)
            waits.append(time.monotonic() - started)
            assert is_deadline(caught.value), caught.value
        print(f"{stage}: DEADLINE_EXCEEDED after", *(f"{1e3 * wait:.0f} ms" for wait in waits))
        # The best of three: a busy machine may hold up the client itself.
        assert min(waits) < NOTICED_S
        await order(client, 5)
    assert puppets.numbers(stage) == [1, 2, 5]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("leave", ["deadline", "cancel"])
async def test_a_queued_request_that_ends_is_never_computed(puppets: Puppets, stage: str, leave: str) -> None:
    later = STAGES[STAGES.index(stage) + 1 :]
    before = {name: puppets.arrived(name) for name in later}
    async with AsyncClient(puppets.mesh.target) as client:
        occupant = await occupy(puppets, client, stage, 400)
        deadline_s = 0.1 if leave == "deadline" else 30
        queued = [asyncio.create_task(order(client, 10 + n, deadline_s=deadline_s)) for n in range(QUEUED)]
        await asyncio.sleep(0.1)
        if leave == "cancel":
            for task in queued:
                task.cancel()
        results = await asyncio.gather(*queued, return_exceptions=True)
        assert not occupant.done(), "the stage was to be busy until the others had left"
        await occupant
        await order(client, 2)
    expected = asyncio.CancelledError if leave == "cancel" else (DeadlineExceeded, RemoteFailure)
    assert all(isinstance(result, expected) for result in results), results
    assert puppets.numbers(stage) == [1, 2]
    for name in later:
        assert puppets.numbers(name) == [1, 2]
        assert puppets.arrived(name) == before[name] + 2


@pytest.mark.parametrize("leave", ["deadline", "cancel"])
@pytest.mark.parametrize("stage", ["preprocess", "infer"])
async def test_a_request_that_ends_while_computed_goes_no_further(puppets: Puppets, stage: str, leave: str) -> None:
    later = STAGES[STAGES.index(stage) + 1 :]
    before = {name: puppets.arrived(name) for name in later}
    async with AsyncClient(puppets.mesh.target) as client:
        if leave == "deadline":
            with pytest.raises(StagemeshError):
                await order(client, 1, slow=stage, ms=300, deadline_s=0.1)
        else:
            task = await occupy(puppets, client, stage, 300)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        await asyncio.sleep(0.4)
        assert puppets.numbers(stage) == [1]
        assert all(puppets.arrived(name) == before[name] for name in later)
        await order(client, 2)


async def test_each_hop_gets_what_the_one_before_left(models: Path) -> None:
    seen: list[tuple[float, str]] = []

    async def model_infer(data: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        seen.append((context.time_remaining(), metadata["x-request-id"]))
        return InferResponse("puppet", {"logits": Tensor("FP32", (1,), bytes(4))}).encode()

    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(model_infer)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pre = ServiceProcess("preprocess", models=models, infer_target=f"ipv4:127.0.0.1:{port}")
    parameters: dict[str, Parameter] = {"preprocess_ms": 300, "stagemesh_route": "infer"}
    with running(pre):
        async with AsyncClient(pre.target) as client:
            image = puppet_image(1)
            await client.infer("puppet", image, parameters=parameters, deadline_s=5, request_id="one-of-mine")
            await client.infer("puppet", image, parameters=parameters, deadline_s=2)
    await server.stop(None)
    assert seen[0][1] == "one-of-mine"
    assert 4 < seen[0][0] <= 4.75
    assert 1 < seen[1][0] <= 1.75


async def test_the_queue_timeout_of_a_request(puppets: Puppets) -> None:
    async with AsyncClient(puppets.mesh.target) as client:
        occupant = await occupy(puppets, client, "infer", 1500)
        started = time.monotonic()
        with pytest.raises(RemoteFailure, match=r"Request timeout expired: not computed within 50 ms") as caught:
            await order(client, 2, timeout=50_000)
        waited = time.monotonic() - started
        assert (caught.value.status, caught.value.origin and caught.value.origin.stage) == (
            "DEADLINE_EXCEEDED",
            "infer",
        )
        assert waited >= 0.05
        assert not occupant.done(), "the request was to leave the queue before its turn"
        await occupant
        await order(client, 3, timeout=50_000)
    assert puppets.numbers("infer") == [1, 3]


async def test_priority_decides_who_is_next(puppets: Puppets) -> None:
    async with AsyncClient(puppets.mesh.target) as client:
        waiting = [await occupy(puppets, client, "infer", 500)]
        for number, priority in enumerate((10, 0, 1, 9, 2), start=2):
            waiting.append(asyncio.create_task(order(client, number, priority=priority)))
            await asyncio.sleep(0.03)
        await asyncio.gather(*waiting)
    assert puppets.numbers("infer") == [1, 4, 6, 3, 5, 2]
