"""`infer`, `models` and `status` as a user types them: what they print, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stagemesh.cli.local.ports import plan_free
from stagemesh.cli.main import main

Capture = pytest.CaptureFixture[str]
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    names = [tmp_path / f"{name}.png" for name in ("one", "two", "three")]
    for path in names:
        path.write_bytes(b"bad" if path.stem == "two" else path.stem.encode())
    return [str(path) for path in names]


def json_lines(capture: Capture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


def test_infer_shows_ranked_labels(server: str, photos: list[str], capsys: Capture) -> None:
    assert main(["infer", "labels", photos[0], "--target", server]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].startswith(photos[0]) and " ms, request " in lines[0]
    assert [line.split() for line in lines[1:]] == [
        ["rank", "label", "probability"],
        ["1", "espresso", "0.750"],
        ["2", "[cup]", "0.250"],
    ]
    assert captured.err == ""


def test_infer_json_has_stable_keys(server: str, photos: list[str], capsys: Capture) -> None:
    assert main(["infer", "labels", photos[0], "--target", server, "--json", "--top-k", "1"]) == 0
    [answer] = json_lines(capsys)
    assert list(answer) == ["file", "ok", "time_ms", "model", "version", "request_id", "labels"]
    assert (answer["file"], answer["ok"], answer["model"]) == (photos[0], True, "labels")
    assert answer["labels"] == [{"rank": 1, "label": "espresso", "class_id": 967, "probability": 0.75}]


def test_one_bad_file_does_not_stop_the_others(server: str, photos: list[str], capsys: Capture) -> None:
    assert main(["infer", "labels", *photos, "--target", server, "--json"]) == 1
    answers = json_lines(capsys)
    assert [answer["file"] for answer in answers] == photos
    assert [answer["ok"] for answer in answers] == [True, False, True]
    error = answers[1]["error"]
    assert list(error) == ["status", "reason", "message", "stage", "replica", "model", "request_id"]
    assert (error["status"], error["stage"], error["replica"]) == ("INVALID_ARGUMENT", "echo", "echo-1")
    assert error["model"] == "labels" and error["request_id"]


def test_a_bad_file_is_a_sentence_on_stderr(server: str, photos: list[str], capsys: Capture) -> None:
    assert main(["infer", "labels", *photos, "--target", server]) == 1
    captured = capsys.readouterr()
    assert f"stagemesh: {photos[1]}: echo@echo-1: model 'labels': image 0: expected a photo" in captured.err
    assert "1 of 3 files failed" in captured.err and "Traceback" not in captured.err
    assert captured.out.count("espresso") == 2


def test_unknown_outputs_are_shown_as_they_are(server: str, photos: list[str], capsys: Capture) -> None:
    assert main(["infer", "echo", photos[0], "--target", server]) == 0
    row = capsys.readouterr().out.splitlines()[2].split()
    assert row == ["image", "object", "[1]", "'one'"]
    assert main(["infer", "echo", photos[0], "--target", server, "--json"]) == 0
    [answer] = json_lines(capsys)
    assert answer["outputs"] == [{"name": "image", "dtype": "object", "shape": [1], "values": ["one"]}]


def test_an_unknown_model_ends_with_1(server: str, photos: list[str], capsys: Capture) -> None:
    assert main(["infer", "nope", photos[0], "--target", server]) == 1
    assert "no model 'nope'" in capsys.readouterr().err


def test_nobody_there_is_said_with_the_target(photos: list[str], capsys: Capture) -> None:
    assert main(["infer", "labels", photos[0], "--target", NOWHERE]) == 1
    captured = capsys.readouterr()
    assert NOWHERE in captured.err and "Traceback" not in captured.err
    assert main(["models", "--target", NOWHERE]) == 1
    assert NOWHERE in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["infer", "classify", "no/such.png"], "no/such.png: no such file"),
        (["infer", "classify", "."], "a folder, not a file"),
        (["infer", "classify", __file__, "--top-k", "0"], "found '0'"),
        (["infer", "classify"], "FILE"),
        (["infer", "classify", __file__, "--deadline", "0"], "found '0'"),
        (["up", "--", "up"], "found up"),
        (["up", "--", "infer", "classify", "no/such.png"], "no such file"),
        (["down"], "down"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], expected: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert expected in capsys.readouterr().err


def test_models_lists_states_and_tensors(server: str, capsys: Capture) -> None:
    assert main(["models", "--target", server]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["echo", "1", "ready", "image", "BYTES", "[-1]", "image", "BYTES", "[-1]"]
    assert main(["models", "--target", server, "--json"]) == 0
    models = json_lines(capsys)
    assert [model["name"] for model in models] == ["echo", "slow", "labels"]
    assert models[0]["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]


def test_models_of_a_server_that_loads(unready_server: str, capsys: Capture) -> None:
    assert main(["models", "--target", unready_server]) == 0
    assert "loading: fetching weights" in capsys.readouterr().out


def test_status_ends_with_0_only_when_ready(server: str, unready_server: str, capsys: Capture) -> None:
    assert main(["status", "--target", server]) == 0
    assert "ready" in capsys.readouterr().out
    assert main(["status", "--target", unready_server, "--json"]) == 1
    status = json.loads(capsys.readouterr().out)
    assert status["ready"] is False
    assert status["servers"][0]["models"][0]["state"] == "LOADING"
    assert main(["status", "--target", NOWHERE]) == 1
    assert "no answer" in capsys.readouterr().out


def test_status_of_a_server_that_cannot_tell_its_models(server_without_index: str, capsys: Capture) -> None:
    assert main(["status", "--target", server_without_index]) == 1
    assert "unknown: INTERNAL: " in (shown := capsys.readouterr().out)
    assert "the repository can't be read" in shown
    assert main(["status", "--target", server_without_index, "--json"]) == 1
    status = json.loads(capsys.readouterr().out)
    assert (status["ready"], status["servers"][0]["ready"]) == (False, True)
    assert "the repository can't be read" in status["servers"][0]["problem"]


def test_status_asks_the_target_of_the_environment(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("STAGEMESH_TARGET", server)
    assert main(["status", "--json"]) == 0
    assert [found["address"] for found in json.loads(capsys.readouterr().out)["servers"]] == [server]
    monkeypatch.setenv("STAGEMESH_TARGET", NOWHERE)
    assert main(["status", "--target", server]) == 0
    capsys.readouterr()
    places = plan_free({})
    for flags in (["--port-base", str(places[0].base)], ["--replicas", "infer=2", "--port-base", str(places[0].base)]):
        assert main(["status", "--json", *flags]) == 1
        addresses = [found["address"] for found in json.loads(capsys.readouterr().out)["servers"]]
        assert addresses[0] == places[0].address and len(addresses) == (5 if "infer=2" in flags else 4)


def test_a_port_base_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("STAGEMESH_PORT_BASE", "many")
    assert main(["status"]) == 2
    assert "STAGEMESH_PORT_BASE: expected a whole number, found 'many'" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_traceback(server: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "stagemesh", "models", "--json", "--target", server]
    answer = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (1, "")
