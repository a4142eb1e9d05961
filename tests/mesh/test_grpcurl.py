"""examples/grpcurl.sh: run where there is grpcurl; everywhere, what it sends is what the mesh takes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format

from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.open_inference_pb2 import POOL
from stagemesh.oip.service import SERVICE_NAME, OipStub
from tests.mesh.processes import ROOT, Mesh
from tests.mesh.wire import labels

pytestmark = pytest.mark.xdist_group("mesh")

RECORDER = """#!/bin/sh
printf '%s\\n' "$*" >> "$RECORD/commands"
case "$*" in *'-d @'*) cat > "$RECORD/body" ;; esac
"""


def run_example(target: str, **env: str) -> str:
    """What the example prints."""
    command = ["sh", str(ROOT / "examples" / "grpcurl.sh")]
    env = {**os.environ, "STAGEMESH_TARGET": target, **env}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.skipif(not shutil.which("grpcurl"), reason="grpcurl is not installed: examples/grpcurl.sh was not run")
def test_the_example(mesh: Mesh) -> None:
    printed = run_example(mesh.target)
    assert "inference.GRPCInferenceService" in printed
    assert '"status": "SERVING"' in printed
    assert '"rawOutputContents"' in printed


def test_what_the_example_sends(mesh: Mesh, tmp_path: Path) -> None:
    recorder = tmp_path / "grpcurl"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    run_example(mesh.target, PATH=f"{tmp_path}:{os.environ['PATH']}", RECORD=str(tmp_path))
    commands = (tmp_path / "commands").read_text().splitlines()
    assert len(commands) == 5
    assert all(mesh.target in command for command in commands)
    called = {command.rpartition("/")[2] for command in commands if f"{SERVICE_NAME}/" in command}
    assert {"ModelMetadata", "ModelInfer"} == called <= set(POOL.FindServiceByName(SERVICE_NAME).methods_by_name)
    request = json_format.Parse((tmp_path / "body").read_text(), pb.ModelInferRequest())
    with grpc.insecure_channel(mesh.target) as channel:
        answer = OipStub(channel).ModelInfer(request.SerializeToString(), timeout=30)
    assert labels(pb.ModelInferResponse.FromString(answer))[0] == b"espresso"
