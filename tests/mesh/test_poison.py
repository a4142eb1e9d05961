"""Plug-ins and networks that raise: the request that caused it fails, with the place, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from stagemesh import AsyncClient, Client
from stagemesh.errors import RemoteFailure
from tests.mesh.processes import Mesh, running_mesh
from tests.mesh.repositories import TEMPLATES, add_model, computed_batches, puppet_image

pytestmark = pytest.mark.xdist_group("poison")

BATCH = 8
POISONED = 5


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose network waits for a full batch."""
    repository = tmp_path_factory.mktemp("models")
    add_model(repository, "puppet", max_batch=BATCH, queue_delay_us=2_000_000)
    return repository


@pytest.fixture(scope="module")
def mesh(models: Path) -> Iterator[Mesh]:
    with running_mesh(models=models) as running:
        yield running


def line_of(file: str, text: str) -> int:
    """The number of the line of a puppet's file that holds `text`."""
    lines = (TEMPLATES / "puppet" / file).read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


@pytest.mark.parametrize(("stage", "plugin"), [("preprocess", "Before"), ("postprocess", "After")])
def test_a_plugin_that_raises_is_named_with_its_line(mesh: Mesh, stage: str, plugin: str) -> None:
    place = f"plugins.py:{line_of('plugins.py', 'raise RuntimeError')}"
    with Client(mesh.target) as client:
        with pytest.raises(RemoteFailure) as caught:
            client.infer("puppet", puppet_image(1), parameters={f"{stage}_raises": True})
        failure = caught.value
        assert failure.status == "INTERNAL"
        assert failure.origin is not None
        assert failure.origin.stage == stage
        assert failure.origin.model == "puppet"
        assert f"{plugin} raised RuntimeError at {place}: told to fail at {stage}" in str(failure)
        assert client.infer("puppet", puppet_image(2))["number"].tolist() == [2]


async def test_a_poisoned_request_fails_alone(mesh: Mesh, models: Path) -> None:
    async with AsyncClient(mesh.target) as client:
        calls = [
            client.infer("puppet", puppet_image(number, poison=number == POISONED)) for number in range(1, BATCH + 1)
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
    batches = computed_batches(models / "puppet", "infer")
    assert any(len(batch) == BATCH and POISONED in batch for batch in batches), "they were to be one batch"
    for number, result in enumerate(results, start=1):
        if number != POISONED:
            assert not isinstance(result, BaseException), result
            assert result["number"].tolist() == [number]
    failure = results[POISONED - 1]
    assert isinstance(failure, RemoteFailure)
    assert (failure.status, failure.origin and failure.origin.stage) == ("INTERNAL", "infer")
    assert f"ValueError at net.py:{line_of('net.py', 'raise ValueError')}: a poisoned sample" in str(failure)
    assert mesh.infer[0].process.poll() is None
