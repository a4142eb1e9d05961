"""A model that can't be served is refused with the reason, and the others of its repository are served."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stagemesh import Client
from tests.mesh.processes import MODELS, ROOT, ServiceProcess, running
from tests.mesh.wire import photos, refusal, zeros

pytestmark = pytest.mark.xdist_group("bad repository")

CLASSIFY = MODELS / "classify"
COFFEE = (ROOT / "examples" / "photos" / "coffee.png").read_bytes()
WRONG_SHA256 = "0" * 64

PREPROCESS = '[preprocess]\nplugin = "image"\nsize = [224, 224]\n'
POSTPROCESS = '[postprocess]\nplugin = "classify"\n'
TASK = '[model]\ntask = "classify"\n'

PREPROCESS_REFUSES = {
    "broken_toml": ("[model\n", r"broken_toml/model\.toml: expected TOML: "),
    "no_model_table": (PREPROCESS, r"\[model\]: expected this table, found only \[preprocess\]"),
    "unknown_task": ('[model]\ntask = "guess"\n' + PREPROCESS, r"\[model\]: key 'task': expected .*, found 'guess'"),
    "missing_labels": (
        TASK + 'labels = "labels.txt"\n' + PREPROCESS,
        r"key 'labels': expected the file 'labels.txt' in .*, found none",
    ),
    "unknown_key": (TASK + PREPROCESS + "sise = 3\n", r"model\.toml \[preprocess\]: unknown key 'sise'"),
    "wrong_type": (TASK + PREPROCESS + 'max_batch = "8"\n', r"\[preprocess\]: key 'max_batch': expected .*, found"),
    "unknown_plugin": (
        TASK + '[preprocess]\nplugin = "imagine"\n',
        r"\[preprocess\]: key 'plugin': unknown plug-in 'imagine'; known: image",
    ),
    "plugin_outside": (
        TASK + '[preprocess]\nplugin = "file:../classify/efficientnet_lite.py:EfficientNetLite"\n',
        r"expected a file inside .*, found '\.\./classify/efficientnet_lite\.py'",
    ),
}

INFER_REFUSES = {
    "wrong_sha256": (
        TASK + f'[infer]\nsource = "weights.pth"\nsha256 = "{WRONG_SHA256}"\narch = "file:net.py:net"\n'
        'outputs = ["logits"]\nsize = [8, 8]\n',
        rf"sha256 of .*weights\.pth: expected {WRONG_SHA256}, found [0-9a-f]{{64}}",
    ),
    "missing_weights": (
        TASK + f'[infer]\nsource = "gone.pth"\nsha256 = "{WRONG_SHA256}"\narch = "file:net.py:net"\n'
        'outputs = ["logits"]\nsize = [8, 8]\n',
        r"expected the file 'gone\.pth' in .*, found none",
    ),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model `classify` as it is, and one folder for each thing that can be wrong."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "classify").symlink_to(CLASSIFY)
    for name, (toml, _) in {**PREPROCESS_REFUSES, **INFER_REFUSES}.items():
        (folder / name).mkdir()
        (folder / name / "model.toml").write_text(toml)
        (folder / name / "weights.pth").write_bytes(b"no weights")
    return folder


@pytest.fixture(scope="module")
def preprocess(repository: Path) -> Iterator[ServiceProcess]:
    service = ServiceProcess("preprocess", models=repository)
    with running(service):
        yield service


@pytest.mark.parametrize("name", PREPROCESS_REFUSES)
def test_a_bad_model_is_refused_with_the_reason(preprocess: ServiceProcess, name: str) -> None:
    words = PREPROCESS_REFUSES[name][1]
    with Client(preprocess.target) as client:
        state = {model.name: model for model in client.models()}[name]
        assert (state.state, client.model_ready(name)) == ("UNAVAILABLE", False)
    assert re.search(words, state.reason), state.reason
    refused = refusal(preprocess.target, photos(COFFEE, model=name), "r-1")
    assert refused.code.name == "UNAVAILABLE"
    assert re.search(rf"preprocess@.*: model '{name}': .*{words}.* \[request r-1\]$", refused.details, re.DOTALL)
    assert refused.info is not None
    assert (refused.info.reason, refused.info.metadata["model"]) == ("MODEL_UNAVAILABLE", name)


def test_the_other_models_are_served(preprocess: ServiceProcess) -> None:
    with Client(preprocess.target) as client:
        assert client.ready()
        assert client.infer_image("classify", COFFEE)["image"].shape == (1, 224, 224, 3)


def test_weights_with_a_wrong_sha256_are_refused(repository: Path, tmp_path: Path) -> None:
    names = ",".join(INFER_REFUSES)
    infer = ServiceProcess("infer", models=repository, model_names=names, cache=tmp_path / "cache")
    with ExitStack() as stack:
        stack.callback(infer.close)
        infer.wait_listening()
        client = stack.enter_context(Client(infer.target))
        deadline = time.monotonic() + 60
        while "LOADING" in {model.state for model in client.models()} or not client.models():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        states = {model.name: model for model in client.models()}
        for name, (_, words) in INFER_REFUSES.items():
            assert states[name].state == "UNAVAILABLE"
            assert re.search(words, states[name].reason), states[name].reason
            refused = refusal(infer.target, zeros("image", "UINT8", 1, 8, 8, 3, model=name))
            assert refused.code.name == "UNAVAILABLE"
            assert re.search(words, refused.details), refused.details


def test_the_gateway_answers_what_its_stages_refuse(preprocess: ServiceProcess, repository: Path) -> None:
    toml = repository / "unknown_plugin" / "model.toml"
    toml.write_text(TASK + '[preprocess]\nplugin = "imagine"\n[infer]\n' + POSTPROCESS)
    targets = dict.fromkeys(("preprocess_target", "infer_target", "postprocess_target"), preprocess.ipv4)
    gateway = ServiceProcess("gateway", models=repository, **targets)
    with running(gateway), Client(gateway.target) as client:
        states = {model.name: model.state for model in client.models()}
        assert (states["broken_toml"], states["classify"]) == ("UNAVAILABLE", "READY")
        assert not client.model_ready("unknown_plugin")
        refused = refusal(gateway.target, photos(COFFEE, model="unknown_plugin"))
        assert refused.code.name == "UNAVAILABLE"
        assert "unknown plug-in 'imagine'" in refused.details
        assert refused.info is not None
        assert refused.info.metadata["stage"] == "preprocess"


def test_a_gateway_needs_each_target() -> None:
    end = ended("gateway", "--port", "0", "--infer-target", "")
    assert end.returncode == 2
    sentence = "gateway: --infer-target: expected the gRPC target of the infer stage, found ''"
    assert end.stderr.strip().splitlines()[-1] == sentence


def ended(stage: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """A service that can't start: its exit code and what it printed."""
    command = [sys.executable, "-m", f"services.{stage}", "--http-port", "0", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_a_port_in_use_ends_the_service_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        end = ended("postprocess", "--port", str(port))
    assert end.returncode == 2
    sentence = end.stderr.strip().splitlines()[-1]
    assert sentence == f"postprocess: can't listen on 127.0.0.1:{port} for gRPC: Address already in use"
    assert "Traceback" not in end.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--models", "/nowhere"], r"postprocess: /nowhere: expected a folder of models: No such file or directory"),
        (["--model-names", "clasify"], r"postprocess: .*unknown model 'clasify'; known models: classify\b.*"),
        (["--max-message-mib", "0"], r"postprocess: --max-message-mib: expected 1 to 2047, found '0'"),
        (["--sise", "3"], r"postprocess: .*unrecognized arguments: --sise 3"),
    ],
)
def test_a_bad_setting_ends_the_service_with_a_sentence(flags: list[str], words: str) -> None:
    end = ended("postprocess", "--port", "0", *flags)
    assert end.returncode == 2
    assert re.fullmatch(words, end.stderr.strip().splitlines()[-1]), end.stderr
    assert "Traceback" not in end.stderr
