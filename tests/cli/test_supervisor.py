"""`stagemesh up` over make-believe services: starting, restarting, giving up, draining, leaving nothing."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stagemesh.cli.local import commands
from stagemesh.cli.local.ports import parse_replicas, plan, plan_free, targets
from stagemesh.cli.main import main
from stagemesh.errors import ConfigError
from tests.cli.up_process import Up, wait_until

StartUp = Callable[..., Up]
SERVICES = ("gateway", "infer", "postprocess", "preprocess")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for service in SERVICES:
        folder = tmp_path / "services" / service
        folder.mkdir(parents=True)
        shutil.copy(Path(__file__).parent / "fake_service.py", folder / "__main__.py")
    (tmp_path / "models").mkdir()
    return tmp_path


@pytest.fixture
def up(checkout: Path) -> Iterator[StartUp]:
    """Starts `up` on free ports; keyword `infer="crash"` sets the behaviour of a service."""
    running: list[Up] = []

    def start(*arguments: str, **behaviours: str) -> Up:
        env = {f"FAKE_{service.upper()}": behaviour for service, behaviour in behaviours.items()}
        env["FAKE_JOURNAL"] = str(checkout / "journal")
        logs = checkout / "logs"
        logs.mkdir()
        running.append(Up("--port-base", "0", *arguments, cwd=checkout, logs=logs, env=env))
        return running[-1]

    yield start
    for mesh in running:
        mesh.__exit__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_drains_the_gateway_first_and_exits_0(up: StartUp, checkout: Path, number: signal.Signals) -> None:
    mesh = up("--replicas", "infer=2")
    mesh.wait_for("ready: send requests to")
    assert len(mesh.children()) == 5
    assert mesh.end(number) == 0
    assert mesh.left() == []
    stops = [line.split()[0] for line in (checkout / "journal").read_text().splitlines() if "stopped" in line]
    assert stops[0] == "gateway" and sorted(stops) == sorted([*SERVICES, "infer"])


def test_children_get_allocator_targets_and_threads(up: StartUp, checkout: Path) -> None:
    mesh = up("--replicas", "infer=2")
    mesh.wait_for("ready: send requests to")
    mesh.end(signal.SIGTERM)
    notes = (checkout / "journal").read_text().splitlines()
    target = next(line for line in notes if line.startswith("gateway STAGEMESH_INFER_TARGET"))
    ports = [int(address.rsplit(":", 1)[1]) for address in target.split(",")]
    assert "=ipv4:127.0.0.1:" in target and ports[1] - ports[0] == 2
    assert "gateway MALLOC_MMAP_THRESHOLD_=268435456" in notes
    assert "gateway STAGEMESH_THREADS=" in notes and "infer STAGEMESH_THREADS=" not in notes


def test_a_killed_child_is_restarted(up: StartUp) -> None:
    mesh = up()
    mesh.wait_for("ready: send requests to")
    killed = mesh.child("infer")
    killed.kill()
    mesh.wait_for(f"infer-0 (pid {killed.pid}) was killed by SIGKILL; restarting")
    wait_until(lambda: any("services.infer" in child.cmdline() for child in mesh.children()))
    restarted = mesh.child("infer")
    mesh.wait_for(f"infer-0 (pid {restarted.pid}) is ready")
    assert mesh.end(signal.SIGTERM) == 0 and mesh.left() == []


def test_what_a_child_has_started_ends_with_it(up: StartUp) -> None:
    mesh = up(infer="with child")
    mesh.wait_for("ready: send requests to")
    first = next(child for child in mesh.children() if child.name() == "sleep")
    mesh.child("infer").kill()
    wait_until(lambda: first not in mesh.left())
    wait_until(lambda: any(child.name() == "sleep" for child in mesh.children()))
    assert mesh.end(signal.SIGTERM) == 0 and mesh.left() == []


def test_a_child_that_never_starts_is_given_up_with_its_last_lines(up: StartUp) -> None:
    mesh = up(infer="crash")
    mesh.wait_for("infer-0 does not start")
    assert mesh.process.wait(20) == 1
    assert mesh.stderr.count("ended with exit code 3") == 5
    assert "the engine is missing" in mesh.stderr.split("does not start")[1]
    assert "Traceback" not in mesh.stderr


def test_a_child_with_a_wrong_setting_is_given_up_at_once(up: StartUp) -> None:
    mesh = up(gateway="bad setting")
    assert mesh.process.wait(20) == 1
    assert mesh.stderr.count("ended with exit code 2") == 1
    assert "port: expected a whole number" in mesh.stderr


def test_services_that_stay_unready_end_the_wait(up: StartUp) -> None:
    mesh = up("--ready-timeout", "3", infer="never ready")
    assert mesh.process.wait(20) == 1
    assert "not all services are ready after 3 s" in mesh.stderr
    assert mesh.left() == []


def test_a_second_signal_does_not_wait_for_a_stubborn_child(up: StartUp, checkout: Path) -> None:
    mesh = up(infer="stubborn")
    mesh.wait_for("ready: send requests to")
    mesh.children()
    mesh.process.send_signal(signal.SIGINT)
    wait_until(lambda: "infer ignored SIGTERM" in (checkout / "journal").read_text())
    assert mesh.end(signal.SIGINT, timeout_s=3) == 0
    assert mesh.left() == []


def test_up_killed_with_9_leaves_no_orphans(up: StartUp) -> None:
    mesh = up()
    wait_until(lambda: len(mesh.children()) == 4, 20)
    mesh.end(signal.SIGKILL)
    wait_until(lambda: mesh.left() == [], 5)


def test_a_port_in_use_is_named_before_anything_starts(checkout: Path) -> None:
    places = plan_free({})
    infer = next(place for place in places if place.service == "infer")
    with socket.socket() as other:
        other.bind(("127.0.0.1", infer.port))
        command = [sys.executable, "-m", "stagemesh", "up", "--port-base", str(infer.base)]
        answer = subprocess.run(command, check=False, cwd=checkout, capture_output=True, text=True, timeout=20)
    assert answer.returncode == 2
    assert f"port {infer.port} for infer-0 is in use by another process" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_without_a_checkout_up_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "__file__", str(tmp_path / "site" / "stagemesh" / "cli" / "local" / "commands.py"))
    assert main(["up", "--port-base", "0"]) == 2
    assert "checkout" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["infer", "infer=0", "infer=x", "infer=99", "redis=2", "infer=-1"])
def test_replicas_that_make_no_sense_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match=text.partition("=")[0]):
        parse_replicas(text)


def test_the_ports_are_those_of_the_docs() -> None:
    places = plan(parse_replicas("infer=2"), 8000)
    ports = {place.name: (place.port, place.http_port) for place in places}
    assert ports == {
        "preprocess-0": (8011, 8012),
        "infer-0": (8021, 8022),
        "infer-1": (8023, 8024),
        "postprocess-0": (8041, 8042),
        "gateway-0": (8001, 8002),
    }
    assert targets(places)["infer"] == "ipv4:127.0.0.1:8021,127.0.0.1:8023"
    assert {place.base for place in places} == {8000}
