"""Plug-ins that fail in odd ways: while they are made, by exiting, with parameters and logs of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from stagemesh import Client, InferResult, RemoteFailure
from tests.mesh.processes import ServiceProcess, running
from tests.mesh.repositories import add_model, computed, puppet_image

pytestmark = pytest.mark.xdist_group("bad plugins")

PLUGINS = """
import asyncio
import logging
import sys

import numpy as np

from stagemesh import Preprocessor, Signature, StageFailed, TensorSpec

class Good(Preprocessor):
    def signature(self):
        text = TensorSpec("text", "BYTES", (-1,))
        return Signature((text,), (TensorSpec("keys", "BYTES", (-1,)),))

    def run(self, inputs, parameters):
        logging.getLogger("plugin").warning("asked for %s", inputs["text"][0].decode())
        if inputs["text"][0] == b"exit":
            sys.exit(3)
        if inputs["text"][0] == b"cancel":
            raise asyncio.CancelledError
        return {"keys": np.array([" ".join(sorted(parameters)).encode()], object)}

class SignatureFails(Good):
    def signature(self):
        raise StageFailed("no device")

class SignatureExits(Good):
    def signature(self):
        sys.exit("no licence")

class SignatureIsNone(Good):
    def signature(self):
        return None

class ConstructorFails(Good):
    def __init__(self, options, folder):
        raise StageFailed("no device")

class ConstructorExits(Good):
    def __init__(self, options, folder):
        sys.exit("no licence")

class ConstructorCancels(Good):
    def __init__(self, options, folder):
        raise asyncio.CancelledError
"""

REFUSED = {
    "SignatureFails": r"model\.toml \[preprocess\]: loading raised StageFailed: no device \(.*plugins\.py, line 25\)",
    "SignatureExits": r"loading raised SystemExit: no licence \(.*plugins\.py, line 29\)",
    "SignatureIsNone": r"loading raised AttributeError: 'NoneType'",
    "ConstructorFails": r"can't be made: StageFailed: no device \(.*plugins\.py, line 37\)",
    "ConstructorExits": r"can't be made: SystemExit: no licence \(.*plugins\.py, line 41\)",
    "ConstructorCancels": r"loading raised CancelledError: +\(.*plugins\.py, line 45\)",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for each class of PLUGINS, and `puppet`."""
    repository = tmp_path_factory.mktemp("models")
    for name in ("Good", *REFUSED):
        folder = repository / name
        folder.mkdir()
        (folder / "plugins.py").write_text(PLUGINS)
        table = f'[preprocess]\nplugin = "file:plugins.py:{name}"\n'
        (folder / "model.toml").write_text(f'[model]\ntask = "custom"\n{table}')
    add_model(repository, "puppet")
    return repository


@pytest.fixture(scope="module")
def stage(models: Path) -> Iterator[ServiceProcess]:
    """A preprocess stage with one thread that knows no other stage."""
    service = ServiceProcess("preprocess", models=models, workers=1)
    with running(service):
        yield service


@pytest.fixture
def client(stage: ServiceProcess) -> Iterator[Client]:
    with Client(stage.target) as client:
        yield client


def ask(client: Client, text: bytes, request_id: str = "", **parameters: str) -> InferResult:
    inputs = {"text": np.array([text], object)}
    return client.infer("Good", inputs, request_id=request_id, parameters=parameters, deadline_s=10)


@pytest.mark.parametrize("name", REFUSED)
def test_a_plugin_that_can_t_be_made_is_refused(client: Client, name: str) -> None:
    (state,) = (model for model in client.models() if model.name == name)
    assert state.state == "UNAVAILABLE"
    assert re.search(REFUSED[name], state.reason), state.reason


@pytest.mark.parametrize(("text", "error"), [(b"exit", "SystemExit"), (b"cancel", "CancelledError")])
def test_a_plugin_that_exits_fails_its_request_alone(client: Client, text: bytes, error: str) -> None:
    for _ in range(2):
        with pytest.raises(RemoteFailure, match=rf"Good raised {error} at plugins\.py:\d+: ") as raised:
            ask(client, text)
        assert raised.value.status == "INTERNAL"
    assert ask(client, b"photo")["keys"].tolist() == [b""]


def test_parameters_between_stages_stay_there(client: Client) -> None:
    keys = ask(client, b"photo", top_k="3", stagemesh_generation="abc", stagemesh_other="x")["keys"]
    assert keys.tolist() == [b"top_k"]


def test_lines_of_a_plugin_carry_the_request(stage: ServiceProcess, client: Client) -> None:
    ask(client, b"this one", "r-17")
    assert re.search(r" \[r-17\] asked for this one$", stage.log(), re.MULTILINE), stage.log()


def test_a_route_that_goes_nowhere_is_refused_at_once(stage: ServiceProcess, client: Client, models: Path) -> None:
    with pytest.raises(RemoteFailure, match="next stage 'infer' has no address here") as raised:
        client.infer("puppet", puppet_image(1), parameters={"stagemesh_route": "infer"}, deadline_s=10)
    assert (raised.value.status, raised.value.reason) == ("UNAVAILABLE", "NO_TARGET")
    assert computed(models / "puppet", "preprocess") == []
    with urlopen(f"http://{stage.host}:{stage.http_port}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert 'stagemesh_failures_total{model="puppet",reason="NO_TARGET",stage="preprocess"} 1.0' in metrics
