"""Models that come, change and go while requests are in flight, through the front door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from stagemesh import AsyncClient, Client, RemoteFailure, Unavailable
from stagemesh.cli.main import main
from stagemesh.oip.service import SERVICE_NAME
from tests.mesh.processes import Mesh, ServiceProcess, running_mesh
from tests.mesh.repositories import add_model, blocks_photo, edit_model, sleep_in_net
from tests.oip.foreign import KSERVE, foreign_class

pytestmark = pytest.mark.xdist_group("repository life")

BALLAST_MIB = 48
ASKERS = 6
QUIET_S = 4.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `blocks`, whose network holds BALLAST_MIB of memory."""
    repository = tmp_path_factory.mktemp("models")
    net = add_model(repository, "blocks") / "net.py"
    ballast = f"        self.register_buffer('ballast', torch.ones({BALLAST_MIB}, 1 << 18), persistent=False)\n"
    start = "    def __init__(self) -> None:\n        super().__init__()\n" + ballast
    net.write_text(net.read_text().replace("    def forward", start + "\n    def forward"))
    return repository


@pytest.fixture(scope="module")
def mesh(models: Path) -> Iterator[Mesh]:
    with running_mesh(models=models, infer_replicas=2) as running:
        yield running


@pytest.fixture
def client(mesh: Mesh) -> Iterator[Client]:
    with Client(mesh.target) as client:
        yield client


def services(mesh: Mesh) -> list[ServiceProcess]:
    return [mesh.gateway, mesh.preprocess, *mesh.infer, mesh.postprocess]


def states(mesh: Mesh, model: str) -> list[tuple[str, str, str]]:
    """Version, state and reason of a model at each server of the mesh."""
    found = []
    for service in services(mesh):
        with Client(service.target) as client:
            found += [(s.version, s.state, s.reason) for s in client.models() if s.name == model]
    return found


async def ask(client: AsyncClient, index: int, model: str = "blocks") -> str:
    """Send photo `index`; the version that gave the answer, which must be that photo's."""
    photo, class_ids, scores = blocks_photo(index)
    result = await client.infer_image(model, photo)
    assert result["class_ids"].tolist() == [class_ids.tolist()]
    np.testing.assert_allclose(result["scores"], [scores], rtol=1e-4)
    return result.model_version


@asynccontextmanager
async def under_load(target: str, model: str = "blocks") -> AsyncIterator[list[str]]:
    """ASKERS clients that ask one request after the other; the versions that answered, in that order."""
    versions: list[str] = []
    stop = asyncio.Event()

    async def keep_asking(client: AsyncClient, first: int) -> None:
        while not stop.is_set():
            versions.append(await ask(client, first + len(versions), model))

    async with AsyncClient(target) as client, asyncio.TaskGroup() as group:
        for first in range(ASKERS):
            group.create_task(keep_asking(client, 1000 * first))
        yield versions
        stop.set()


async def resting_rss(mesh: Mesh) -> list[int]:
    await asyncio.sleep(QUIET_S)
    return [service.rss() >> 20 for service in services(mesh)]


async def test_five_reloads_under_load_lose_no_request_and_no_memory(mesh: Mesh) -> None:
    async with AsyncClient(mesh.target) as client:
        async with under_load(mesh.target):
            await client.load_model("blocks")  # the second model of a process needs more than the first
        before = await resting_rss(mesh)
        async with under_load(mesh.target) as versions:
            for _ in range(5):
                await client.load_model("blocks")
                answered = len(versions)
                while len(versions) < answered + 2 * ASKERS:
                    await asyncio.sleep(0.01)
        after = await resting_rss(mesh)
    grown = np.subtract(after, before)
    print(f"{len(versions)} requests, resident MiB {before} -> {after}")
    assert grown.max() < 2 * BALLAST_MIB


async def test_a_change_of_what_passes_between_stages_loses_no_request(mesh: Mesh, models: Path) -> None:
    edit_model(models / "blocks", "[320, 320]", "[256, 256]")
    edit_model(models / "blocks", 'task = "classify"', 'task = "classify"\nversion = "2"')
    async with AsyncClient(mesh.target) as client, under_load(mesh.target) as versions:
        await client.load_model("blocks")
        answered = len(versions)
        assert await ask(client, 7) == "2"
        while len(versions) < answered + 3 * ASKERS:
            await asyncio.sleep(0.01)
    first_new = versions.index("2")
    assert first_new > 0
    assert versions[first_new:].count("1") <= ASKERS, "only what was in flight is answered by the old version"
    assert states(mesh, "blocks") == [("2", "READY", "")] * 5


def test_only_the_newest_version_is_served(client: Client) -> None:
    photo = blocks_photo(1)[0]
    assert client.infer_image("blocks", photo, version="2").model_version == "2"
    assert client.metadata("blocks").versions == ("2",)
    with pytest.raises(RemoteFailure, match=r"'blocks' version 1 is not found, expected version 2") as raised:
        client.infer_image("blocks", photo, version="1")
    assert (raised.value.status, client.model_ready("blocks", "1")) == ("NOT_FOUND", False)


def test_statistics_count_from_the_load(client: Client) -> None:
    assert client.statistics("blocks")[0].inference_count > 0
    client.load_model("blocks")
    assert client.statistics("blocks")[0].inference_count == 0


def test_a_folder_dropped_in_while_running(client: Client, mesh: Mesh, models: Path) -> None:
    with pytest.raises(
        RemoteFailure, match=r"no folder 'late' in the model repository /.*, expected one of: "
    ) as raised:
        client.load_model("late")
    assert raised.value.status == "NOT_FOUND"
    assert str(models) in str(raised.value)
    add_model(models, "blocks", "late")
    assert states(mesh, "late") == []
    client.load_model("late")
    photo, class_ids, _ = blocks_photo(3)
    assert client.infer_image("late", photo)["class_ids"].tolist() == [class_ids.tolist()]
    assert states(mesh, "late") == [("1", "READY", "")] * 5


def test_a_broken_model_toml_changes_nothing(client: Client, models: Path) -> None:
    toml = models / "late" / "model.toml"
    good = toml.read_text()
    toml.write_text("[model\n")
    with pytest.raises(
        RemoteFailure, match=r"late/model\.toml: expected TOML: .*; version 1 stays in service"
    ) as raised:
        client.load_model("late")
    assert raised.value.status == "FAILED_PRECONDITION"
    assert raised.value.origin and (raised.value.origin.stage, raised.value.origin.model) == ("gateway", "late")
    assert client.infer_image("late", blocks_photo(4)[0]).model_version == "1"
    toml.write_text(good)


def test_a_stage_that_fails_leaves_the_mesh_as_it_was(client: Client, models: Path) -> None:
    """The other stages have loaded images of another size by then."""
    folder = models / "late"
    good = (folder / "model.toml").read_text()
    edit_model(folder, "[320, 320]", "[256, 256]")
    edit_model(folder, "net.py:blocks", "net.py:gone")
    for _ in range(2):
        with pytest.raises(RemoteFailure, match=r"\[infer\].*gone.*; version 1 stays in service") as raised:
            client.load_model("late")
        origin = raised.value.origin
        assert origin and origin.stage == "infer" and origin.replica
        for index in range(4):
            photo, class_ids, _ = blocks_photo(index)
            assert client.infer_image("late", photo)["class_ids"].tolist() == [class_ids.tolist()]
    (folder / "model.toml").write_text(good.replace("[320, 320]", "[256, 256]"))
    client.load_model("late")
    assert client.infer_image("late", blocks_photo(4)[0]).model_version == "1"


async def test_an_unload_lets_requests_in_flight_finish(mesh: Mesh, models: Path) -> None:
    sleep_in_net(models / "late", 0.5)
    async with AsyncClient(mesh.target) as client:
        await client.load_model("late")
        asked = [asyncio.create_task(ask(client, index, "late")) for index in range(20)]
        await asyncio.sleep(0.4)
        await client.unload_model("late")
        assert await asyncio.gather(*asked) == ["1"] * 20
        with pytest.raises(RemoteFailure, match="model 'late' is not ready: unloaded") as raised:
            await ask(client, 1, "late")
        assert (raised.value.status, raised.value.reason) == ("UNAVAILABLE", "MODEL_UNAVAILABLE")
        assert await client.ready() and not await client.model_ready("late")
        assert states(mesh, "late") == [("1", "UNAVAILABLE", "unloaded")] * 5
        await client.load_model("late")
        await ask(client, 1, "late")


def test_the_command(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unload", "late", "--target", mesh.target]) == 0
    assert main(["load", "late", "blocks", "--target", mesh.target]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "late: unloaded",
        "late: version 1 is served",
        "blocks: version 2 is served",
    ]
    assert main(["load", "nowhere", "--target", mesh.target]) == 1
    assert "no folder 'nowhere'" in capsys.readouterr().err


def test_triton_s_client(mesh: Mesh) -> None:
    with triton.InferenceServerClient(mesh.target) as client:
        assert "model_repository" in client.get_server_metadata().extensions
        client.unload_model("late")
        index = {
            model.name: (model.version, model.state, model.reason)
            for model in client.get_model_repository_index().models
        }
        assert index == {"blocks": ("2", "READY", ""), "late": ("1", "UNAVAILABLE", "unloaded")}
        client.load_model("late")
        assert client.is_model_ready("late")
        with pytest.raises(InferenceServerException, match="not found, expected one of: blocks, late") as raised:
            client.unload_model("none")
        assert raised.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ({"config": "{}"}, "config"),
        ({"config": "{}", "files": {"file:1/model.py": b"import os"}}, "config|file:1/model.py"),
    ],
)
def test_what_a_client_sends_is_not_run(mesh: Mesh, override: dict[str, object], named: str) -> None:
    with triton.InferenceServerClient(mesh.target) as client:
        with pytest.raises(InferenceServerException, match=rf"parameter '({named})': .* from its folder") as raised:
            client.load_model("late", **override)
        assert raised.value.status() == "StatusCode.UNIMPLEMENTED"


def test_kserve_s_variant(mesh: Mesh) -> None:
    with grpc.insecure_channel(mesh.target) as channel:
        for verb, flag in (("Unload", "isUnloaded"), ("Load", "isLoaded")):
            request = foreign_class(KSERVE, f"RepositoryModel{verb}Request")
            response = foreign_class(KSERVE, f"RepositoryModel{verb}Response")
            call = channel.unary_unary(
                f"/{SERVICE_NAME}/RepositoryModel{verb}", request.SerializeToString, response.FromString
            )
            answer = call(request(model_name="late"), timeout=60)
            assert (answer.model_name, getattr(answer, flag)) == ("late", True)
            with pytest.raises(grpc.RpcError, match="expected the name of a model, found none"):
                call(request(), timeout=60)


def test_a_replica_out_of_reach_does_not_hold_up_a_load(client: Client, mesh: Mesh, models: Path) -> None:
    mesh.infer[1].kill()
    edit_model(models / "late", 'task = "classify"', 'task = "classify"\nversion = "3"')
    client.load_model("late")
    assert client.infer_image("late", blocks_photo(1)[0]).model_version == "3"
    mesh.infer[0].kill()
    with pytest.raises((Unavailable, RemoteFailure), match=r"stage 'infer' at ipv4:127\.0\.0\.1:\d+ is out of reach"):
        client.load_model("late")
