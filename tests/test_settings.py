"""Settings: where values come from, what is refused, and how it is said."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

import services
from stagemesh.errors import ConfigError
from stagemesh.settings import MESH_NAMES, OTHER_NAMES, ServiceSettings, load_settings, setting


@dataclass(frozen=True, kw_only=True)
class AnySettings(ServiceSettings):
    """One field of each kind."""

    device: Literal["auto", "cpu"] = setting("auto", "where")
    threads: int = setting(0, "how many, at least 0 %", minimum=0)
    workers: bool = setting(False, "a flag")


def service_settings() -> list[type[ServiceSettings]]:
    """The settings class of each service that has one."""
    found = []
    for package in pkgutil.iter_modules(services.__path__, "services."):
        module = importlib.import_module(f"{package.name}.settings")
        found += [
            item
            for item in vars(module).values()
            if isinstance(item, type) and issubclass(item, ServiceSettings) and item.__module__ == module.__name__
        ]
    return found


def names(cls: type[ServiceSettings]) -> set[str]:
    return {spec.name for spec in dataclasses.fields(cls)}


def test_the_known_names_are_those_of_the_services_and_the_command_line() -> None:
    command_line = {"target", "port_base", "kvstore_target"}
    of_services = set().union(*map(names, service_settings()))
    assert len(service_settings()) >= 5
    assert of_services | command_line == MESH_NAMES
    assert of_services | command_line == OTHER_NAMES | names(ServiceSettings)


def test_each_service_has_its_own_ports() -> None:
    ports = {cls.stage: (cls().port, cls().http_port) for cls in service_settings()}
    assert ports == {
        "gateway": (8001, 8002),
        "preprocess": (8011, 8012),
        "infer": (8021, 8022),
        "postprocess": (8041, 8042),
        "kvstore": (8051, 8052),
    }


@pytest.mark.parametrize("cls", service_settings())
def test_every_service_takes_the_environment_of_the_whole_mesh(cls: type[ServiceSettings]) -> None:
    env = {f"STAGEMESH_{name.upper()}": "1" for name in OTHER_NAMES - names(cls)}
    assert load_settings(cls, [], env) == cls()


def test_flags_beat_the_environment_and_that_beats_defaults() -> None:
    env = {"STAGEMESH_PORT": "9001", "STAGEMESH_HTTP_PORT": "9002", "PATH": "/bin"}
    settings = load_settings(ServiceSettings, ["--port", "7001", "--drain-s=0.5"], env)
    assert (settings.port, settings.http_port, settings.drain_s) == (7001, 9002, 0.5)
    assert settings.max_message_mib == 256


def test_every_kind_of_field() -> None:
    argv = ["--models", "~/m", "--model-names", "classify, faces,", "--device=cpu", "--threads=3", "--workers"]
    settings = load_settings(AnySettings, argv, {"STAGEMESH_WORKERS": "no", "STAGEMESH_DRAIN_S": " 2 "})
    assert settings.models == Path.home() / "m"
    assert settings.model_names == ("classify", "faces")
    assert (settings.device, settings.threads, settings.drain_s) == ("cpu", 3, 2.0)
    assert settings.workers is True
    assert load_settings(AnySettings, ["--workers=false"], {"STAGEMESH_WORKERS": "1"}).workers is False


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--port", "x"], "--port: expected a whole number, found 'x'"),
        (["--port", "65536"], "--port: expected 0 to 65535, found '65536'"),
        (["--port=-1"], "--port: expected 0 to 65535, found '-1'"),
        (["--drain-s", "soon"], "--drain-s: expected a number, found 'soon'"),
        (["--drain-s", "nan"], "--drain-s: expected at least 0, found 'nan'"),
        (["--device", "tpu"], "--device: expected one of auto, cpu, found 'tpu'"),
        (["--workers=maybe"], "--workers: expected one of true, 1, yes, false, 0, no, found 'maybe'"),
        (["--models", ""], "--models: expected a path, found ''"),
        (["--prot", "1"], "unrecognized arguments: --prot 1"),
        (["--por", "1"], "unrecognized arguments: --por 1"),
        (["--port"], "--port: expected one argument"),
    ],
)
def test_a_bad_flag_is_named(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(AnySettings, argv, {})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("STAGEMESH_PORT", "x", "STAGEMESH_PORT: expected a whole number, found 'x'"),
        ("STAGEMESH_LOG_FORMAT", "xml", "STAGEMESH_LOG_FORMAT: expected one of human, json, found 'xml'"),
        ("STAGEMESH_PROT", "1", "unknown setting STAGEMESH_PROT in the environment; did you mean STAGEMESH_PORT?"),
        ("STAGEMESH_ZZZZZZ", "1", "unknown setting STAGEMESH_ZZZZZZ in the environment"),
    ],
)
def test_a_bad_variable_is_named(variable: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(ServiceSettings, [], {variable: text})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("STAGEMESH_PORT", "tcp://10.0.0.7:8001"),
        ("STAGEMESH_INFER_SERVICE_HOST", "10.0.0.7"),
        ("STAGEMESH_INFER_SERVICE_PORT_GRPC", "8001"),
        ("STAGEMESH_INFER_PORT_8001_TCP_ADDR", "10.0.0.7"),
    ],
)
def test_variables_that_kubernetes_sets_for_a_service_are_ignored(variable: str, text: str) -> None:
    assert load_settings(ServiceSettings, [], {variable: text}) == ServiceSettings()


def test_help_shows_every_field_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_settings(AnySettings, ["--help"], {})
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for spec in dataclasses.fields(AnySettings):
        assert f"--{spec.name.replace('_', '-')}" in shown
        assert spec.metadata["help"] in shown
    assert "(default: 1.5)" in shown
    assert "auto|cpu" in shown


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert ServiceSettings().cache == Path("/x/stagemesh")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert ServiceSettings().cache == Path.home() / ".cache" / "stagemesh"
