"""A service needs only its own dependencies, so that its image and its memory hold no more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.mesh.processes import ROOT

MODULES = {
    "gateway": ["services.gateway.__main__"],
    "preprocess": ["services.preprocess.__main__", "services.preprocess.image"],
    "infer": ["services.infer.__main__", "services.infer.network"],
    "postprocess": ["services.postprocess.__main__", "services.postprocess.classify"],
    "kvstore": ["services.kvstore.__main__"],
}
NOT_NEEDED = {
    "gateway": ["torch", "cv2", "PIL", "redis"],
    "preprocess": ["torch", "redis"],
    "infer": ["cv2", "PIL", "redis"],
    "postprocess": ["torch", "cv2", "PIL", "redis"],
    "kvstore": ["torch", "cv2", "PIL"],
}


def python(code: str, *arguments: str) -> str:
    """What `code` prints in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    end = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert end.returncode == 0, end.stderr
    return end.stdout


@pytest.mark.parametrize("stage", MODULES)
def test_a_service_imports_without_what_it_does_not_need(stage: str) -> None:
    python(
        "import sys, json, importlib\n"
        "blocked, modules = map(json.loads, sys.argv[1:])\n"
        "sys.modules.update(dict.fromkeys(blocked))\n"
        "for module in modules: importlib.import_module(module)\n",
        json.dumps([*NOT_NEEDED[stage], *(f"services.{other}" for other in MODULES if other != stage)]),
        json.dumps(MODULES[stage]),
    )


@pytest.mark.parametrize("stage", ["gateway", "postprocess"])
def test_a_light_service_imports_nothing_heavy(stage: str) -> None:
    loaded = python(f"import sys, {MODULES[stage][0]}\nprint(*sorted(sys.modules))").split()
    assert not {"torch", "cv2", "PIL", "redis", "tritonclient", "kserve"} & set(loaded)


@pytest.mark.parametrize("module", ["stagemesh", "stagemesh.errors"])
def test_the_package_itself_loads_neither_grpc_nor_numpy(module: str) -> None:
    loaded = python(f"import sys, {module}\nprint(*sorted(sys.modules))").split()
    assert not {"grpc", "google.protobuf", "numpy", "torch"} & set(loaded)


def test_the_client_loads_no_service() -> None:
    loaded = python("import sys\nfrom stagemesh import Client\nprint(*sorted(sys.modules))").split()
    assert "grpc" in loaded
    assert not [
        name for name in loaded if name.split(".")[0] in ("services", "torch", "cv2", "PIL", "prometheus_client")
    ]
