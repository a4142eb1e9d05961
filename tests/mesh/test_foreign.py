"""A foreign server of the protocol, which knows nothing of routes and `meta.*`, stands in place of any stage."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stagemesh import Client, RemoteFailure
from stagemesh.repository import read_model
from stagemesh.settings import default_cache
from stagemesh.sources import resolve
from tests.mesh.processes import MODELS, ROOT, Mesh, ServiceProcess, running
from tests.mesh.wire import photos, refusal

pytestmark = pytest.mark.xdist_group("mesh")

COFFEE = ROOT / "examples" / "photos" / "coffee.png"
CLASSIFY = MODELS / "classify"
STAGES = ("preprocess", "infer", "postprocess")


@pytest.fixture(scope="module")
def foreign() -> Iterator[dict[str, str]]:
    """The gRPC target of a foreign server for each stage."""
    table = read_model(CLASSIFY).table("infer")
    weights = resolve(str(table["source"]), str(table["sha256"]), CLASSIFY, default_cache())
    script = Path(__file__).with_name("foreign_server.py")
    command = [sys.executable, script, CLASSIFY / "efficientnet_lite.py", weights, CLASSIFY / "labels.txt"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as server:  # type: ignore[call-overload]
        ports = dict(server.stdout.readline().split() for _ in STAGES)
        yield {stage: f"ipv4:127.0.0.1:{port}" for stage, port in ports.items()}


@pytest.fixture
def gateway_with(mesh: Mesh, foreign: dict[str, str], request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a gateway to a mesh in which the stages `request.param` are foreign.

    Ours of the shared mesh stay where they hand on to no foreign stage.
    """
    ours = {"preprocess": mesh.preprocess, "infer": mesh.infer[0], "postprocess": mesh.postprocess}
    targets: dict[str, str] = {}
    with ExitStack() as stack:
        for stage in reversed(STAGES):
            onward = {f"{name}_target": target for name, target in targets.items()}
            if stage in request.param:
                targets[stage] = foreign[stage]
            elif targets == {name: ours[name].ipv4 for name in targets}:
                targets[stage] = ours[stage].ipv4
            else:
                service = ServiceProcess(stage, **onward)
                stack.enter_context(running(service))
                targets[stage] = service.ipv4
        gateway = ServiceProcess("gateway", **{f"{name}_target": target for name, target in targets.items()})
        stack.enter_context(running(gateway))
        yield gateway.target


@pytest.mark.parametrize(
    "gateway_with",
    [{"preprocess"}, {"infer"}, {"postprocess"}, {"infer", "postprocess"}, set(STAGES)],
    indirect=True,
    ids=lambda stages: ", ".join(sorted(stages)),
)
def test_labels_with_foreign_stages(gateway_with: str) -> None:
    with Client(gateway_with) as client:
        result = client.infer_image("classify", COFFEE)
        again = client.infer_image("classify", COFFEE)
    assert result["labels"][0, 0] == b"espresso"
    assert result["class_ids"].shape == (1, 5)
    assert again["class_ids"].tolist() == result["class_ids"].tolist()


@pytest.mark.parametrize("gateway_with", [{"preprocess"}], indirect=True, ids=["preprocess"])
def test_the_error_of_a_foreign_stage_names_it(gateway_with: str, foreign: dict[str, str]) -> None:
    refused = refusal(gateway_with, photos(b"no photo"), "r-3")
    assert refused.code.name == "INVALID_ARGUMENT"
    assert "cannot identify image file" in refused.details
    assert refused.details.startswith(f"preprocess@{foreign['preprocess']}: ")
    assert refused.info is not None
    assert dict(refused.info.metadata) == {
        "stage": "preprocess",
        "replica": foreign["preprocess"],
        "model": "classify",
        "request_id": "r-3",
    }


@pytest.mark.parametrize("gateway_with", [{"infer"}, {"preprocess"}], indirect=True, ids=["infer", "preprocess"])
def test_a_foreign_stage_that_tells_nothing_of_its_models_counts_as_ready(gateway_with: str) -> None:
    with Client(gateway_with) as client:
        assert client.model_ready("classify")


@pytest.mark.parametrize("gateway_with", [{"infer"}], indirect=True, ids=["infer"])
def test_the_configuration_of_a_model_with_a_foreign_stage(gateway_with: str) -> None:
    with Client(gateway_with) as client:
        config = client.config("classify")
    assert config.max_batch_size > 0
    assert [tensor.name for tensor in config.input] == ["image"]


@pytest.mark.parametrize("gateway_with", [{"preprocess"}], indirect=True, ids=["preprocess"])
def test_tensors_that_a_foreign_stage_does_not_tell(gateway_with: str) -> None:
    words = r"gateway@.*: model 'classify': stage 'preprocess' at .* does not tell the tensors of its models"
    with Client(gateway_with) as client:
        for question in (client.metadata, client.config):
            with pytest.raises(RemoteFailure, match=words) as raised:
                question("classify")
            assert raised.value.status == "UNIMPLEMENTED"
