"""Two thousand requests at once against queues of 64: refused or served, and memory that comes back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from stagemesh.oip.messages import InferRequest
from stagemesh.oip.service import OipStub
from stagemesh.oip.tensors import Tensor
from stagemesh.rpc.status import DETAILS_KEY
from tests.mesh.processes import Mesh, ServiceProcess, running_mesh
from tests.mesh.repositories import add_model, blocks_photo

pytestmark = [pytest.mark.xdist_group("overload"), pytest.mark.timeout(300)]

AT_ONCE = 2000
QUEUE = 64
CHANNELS = 4
BOUND_S = 90
TOLERANCE = 0.1
SETTLE_S = 4


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh of its own, with queues of 64 at every stage."""
    models = tmp_path_factory.mktemp("models")
    add_model(models, "blocks", max_queue=QUEUE)
    with running_mesh(models=models) as running:
        yield running


async def call(stub: OipStub, request: bytes) -> str:
    """The status of one request; a refusal must say when to come back."""
    try:
        await stub.ModelInfer(request, timeout=BOUND_S)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            assert retry_delay_s(error) > 0
        return error.code().name
    return "OK"


def retry_delay_s(error: grpc.aio.AioRpcError) -> float:
    """The seconds of the RetryInfo of a failed call; 0 where it has none."""
    packed = dict(error.trailing_metadata() or ()).get(DETAILS_KEY, b"")
    assert isinstance(packed, bytes)
    retry = error_details_pb2.RetryInfo()
    for detail in status_pb2.Status.FromString(packed).details:
        if detail.Unpack(retry):
            return retry.retry_delay.ToNanoseconds() / 1e9
    return 0.0


async def burst(target: str, request: bytes) -> Counter[str]:
    """Send AT_ONCE requests at once over a few connections; how many ended with which status."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target, options)) for _ in range(CHANNELS)
        ]
        stubs = [OipStub(channel) for channel in channels]
        calls = [call(stubs[index % CHANNELS], request) for index in range(AT_ONCE)]
        return Counter(await asyncio.gather(*calls))


async def two_bursts(target: str, request: bytes, services: list[ServiceProcess]) -> None:
    """Flood a server twice; nothing hangs, and no process needs more memory after the second time."""
    memory = []
    for number in (1, 2):
        started = time.monotonic()
        statuses = await burst(target, request)
        took = time.monotonic() - started
        print(f"burst {number}: {dict(statuses)} in {took:.1f} s")
        assert statuses.keys() <= {"OK", "RESOURCE_EXHAUSTED"}
        assert statuses["OK"] >= QUEUE
        assert took < BOUND_S
        await asyncio.sleep(SETTLE_S)
        memory.append({service.stage: service.rss() for service in services})
    for stage, first in memory[0].items():
        second = memory[1][stage]
        print(f"{stage}: {first >> 20} MiB, then {second >> 20} MiB ({second / first - 1:+.1%})")
    grown = {stage for stage, first in memory[0].items() if abs(memory[1][stage] / first - 1) > TOLERANCE}
    assert not grown


async def test_through_the_gateway_with_a_photo(mesh: Mesh, photos: Path) -> None:
    photo = np.array([(photos / "coffee.png").read_bytes()], dtype=object)
    request = InferRequest("blocks", {"image": Tensor.from_numpy(photo)}).encode()
    assert len(request) > 460_000
    await two_bursts(mesh.target, request, [mesh.gateway, mesh.preprocess, *mesh.infer, mesh.postprocess])


async def test_against_one_stage(mesh: Mesh) -> None:
    pixels = np.zeros((1, 320, 320, 3), np.uint8)
    request = InferRequest("blocks", {"image": Tensor.from_numpy(pixels)}).encode()
    await two_bursts(mesh.infer[0].target, request, list(mesh.infer))


async def test_the_mesh_serves_after_it(mesh: Mesh) -> None:
    photo, class_ids, _ = blocks_photo(1)
    request = InferRequest("blocks", {"image": Tensor.from_numpy(np.array([photo], dtype=object))}).encode()
    async with grpc.aio.insecure_channel(mesh.target) as channel:
        assert class_ids.astype(np.int32).tobytes() in await OipStub(channel).ModelInfer(request, timeout=BOUND_S)
