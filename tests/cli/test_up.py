"""`stagemesh up` over the real services and the real network."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from subprocess import run

import pytest

from stagemesh import Client
from tests.cli.up_process import Up, wait_until

ROOT = Path(__file__).parents[2]
COFFEE = ROOT / "examples" / "photos" / "coffee.png"
START_S = 90.0

pytestmark = pytest.mark.timeout(180)


def best_label(target: str) -> tuple[str, float]:
    with Client(target) as client:
        result = client.infer_image("classify", COFFEE)
    return result["labels"][0][0].decode(), float(result["scores"][0][0])


def run_example(name: str, target: str) -> str:
    command = [sys.executable, str(ROOT / "examples" / name)]
    env = {**os.environ, "STAGEMESH_TARGET": target}
    return run(command, env=env, capture_output=True, text=True, timeout=30, check=True).stdout


def test_up_serves_restarts_what_dies_and_drains(tmp_path: Path) -> None:
    with Up("--port-base", "0", "--models", "classify", cwd=ROOT, logs=tmp_path) as up:
        up.wait_for("ready: send requests to", START_S)
        target = re.findall(r"send requests to (\S+),", up.stderr)[0]
        assert best_label(target) == ("espresso", pytest.approx(0.946, abs=0.01))

        for example in ("sdk_sync.py", "sdk_async.py", "tritonclient_infer.py"):
            assert "espresso" in run_example(example, target)

        killed = up.child("postprocess")
        killed.kill()
        up.wait_for(f"postprocess-0 (pid {killed.pid}) was killed by SIGKILL; restarting")
        wait_until(lambda: len(re.findall(r"postprocess-0 \(pid \d+\) is ready", up.stderr)) == 2, START_S)
        assert best_label(target)[0] == "espresso"

        assert up.end(signal.SIGTERM) == 0
        assert up.left() == []
        assert "Traceback" not in up.stderr


def test_up_with_a_verb_ends_with_its_exit_code(tmp_path: Path) -> None:
    no_photo = tmp_path / "no-photo.png"
    no_photo.write_text("not a photo")
    verb = ["--", "infer", "classify", str(COFFEE), str(no_photo), "--json"]
    with Up("--port-base", "0", "--models", "classify", *verb, cwd=ROOT, logs=tmp_path) as up:
        wait_until(lambda: len(up.children()) >= 4, 30)
        assert up.process.wait(START_S) == 1
        assert up.left() == []
    coffee, wrong = (json.loads(line) for line in up.stdout.splitlines())
    assert coffee["ok"] and coffee["labels"][0]["label"] == "espresso"
    assert not wrong["ok"]
    assert (wrong["error"]["status"], wrong["error"]["stage"]) == ("INVALID_ARGUMENT", "preprocess")


def test_the_main_job_from_one_command() -> None:
    command = [sys.executable, "-m", "stagemesh", "up", "--models", "classify", "--port-base", "0"]
    command += ["--", "infer", "classify", str(COFFEE)]
    answer = run(command, cwd=ROOT, capture_output=True, text=True, timeout=START_S, check=False)
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"1 +espresso +0\.94", answer.stdout)


def test_up_killed_with_9_leaves_no_service(tmp_path: Path) -> None:
    with Up("--port-base", "0", "--models", "classify", cwd=ROOT, logs=tmp_path) as up:
        up.wait_for("preprocess-0", START_S)
        assert len(up.children()) == 4
        up.end(signal.SIGKILL)
        wait_until(lambda: up.left() == [], 5)


def test_a_model_that_a_stage_refuses_ends_the_wait_with_the_reason(tmp_path: Path) -> None:
    model = tmp_path / "models" / "mine"
    model.mkdir(parents=True)
    (model / "model.toml").write_text('[model]\ntask = "custom"\n\n[postprocess]\nplugin = "nonsense"\n')
    command = [sys.executable, "-m", "stagemesh", "up", "--log-dir", str(tmp_path), "--port-base", "0"]
    command += ["--models", "mine", "--repository", str(model.parent), "--", "models"]
    end = run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert end.returncode == 1
    assert "postprocess-0 does not serve 'mine'" in end.stderr
    assert "unknown plug-in 'nonsense'; known: classify" in end.stderr
