"""Building: candidates compared and timed, choices kept, engine files that are spoilt made again or refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from services.infer.engine.builder import EngineBuilder
from services.infer.engine.engine import Engine
from services.infer.engine.manifest import EngineRefused, Manifest
from services.infer.engine.program import AOTINDUCTOR, EAGER, ONNXRUNTIME
from services.infer.engine.store import EngineStore, StoreUnwritable
from services.infer.engine.tactics import choose, deviation
from stagemesh.errors import ConfigError
from tests.engine_build.tiny import Tiny, check, config, identity, network

# the package is compiled once: by the one worker that runs these
pytestmark = pytest.mark.xdist_group("engine_build")


class Branches(nn.Module):
    """Traced, it keeps only one way of its branch."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Tiny()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        output, features = self.inner(image)
        return (output if len(image) != 2 else output * 2), features


def build(cache: Path, steps: list[str], backend: str = "auto", module: nn.Module | None = None) -> Engine:
    return EngineBuilder(EngineStore(cache), steps.append).build(network(module), config(backend))


def manifest_of(cache: Path) -> Manifest:
    found = EngineStore(cache).find(identity())
    assert found is not None
    return found


def edit_tactic(cache: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = EngineStore(cache).folder(identity()) / "manifest.json"
    content = json.loads(path.read_text())
    change(content["tactics"]["2"])
    path.write_text(json.dumps(content))


def test_auto_times_what_is_cheap_and_records_it(tmp_path: Path) -> None:
    steps: list[str] = []
    engine = build(tmp_path, steps)
    check(engine.create_context(), 5)
    tactic = manifest_of(tmp_path).tactics["2"]
    assert tactic.milliseconds.keys() == {EAGER, ONNXRUNTIME}
    assert tactic.choice == choose(tactic.milliseconds)
    assert engine.backend == "+".join(tactic.backends)
    assert tactic.errors[ONNXRUNTIME] < 1e-4
    assert any("timing eager, onnxruntime" in step for step in steps)


def test_a_recorded_choice_is_used_without_timing(tmp_path: Path) -> None:
    build(tmp_path, [])
    for backend in (ONNXRUNTIME, EAGER):
        edit_tactic(tmp_path, lambda tactic, backend=backend: tactic.update(choice={"1": backend, "4": backend}))
        steps: list[str] = []
        engine = build(tmp_path, steps)
        assert (engine.backend, steps) == (backend, [])
        check(engine.create_context(), 3)


def test_a_backend_that_was_not_tried_is_timed(tmp_path: Path) -> None:
    build(tmp_path, [])
    edit_tactic(
        tmp_path, lambda tactic: tactic.update(milliseconds={"eager": {"1": 1.0, "4": 1.0}}, choice={"1": "eager"})
    )
    steps: list[str] = []
    build(tmp_path, steps)
    assert any("timing" in step for step in steps)


def test_a_network_that_tracing_changes_stays_eager(tmp_path: Path) -> None:
    engine = build(tmp_path, [], module=Branches())
    assert engine.backend == EAGER
    assert "differ" in manifest_of(tmp_path).tactics["2"].failures[ONNXRUNTIME]
    with pytest.raises(ConfigError, match=r"backend 'onnxruntime': its outputs differ from the eager ones by \d"):
        build(tmp_path, [], ONNXRUNTIME, Branches())


def test_the_compiled_engine_computes_the_same(compiled: tuple[Path, Engine]) -> None:
    _, engine = compiled
    assert engine.backend == AOTINDUCTOR
    for batch in (1, 2, 5, 8):
        check(engine.create_context(), batch)


def test_a_compiled_engine_is_loaded_not_built_again(compiled_copy: Path) -> None:
    steps: list[str] = []
    engine = build(compiled_copy, steps, AOTINDUCTOR)
    assert (engine.backend, steps) == (AOTINDUCTOR, [])
    check(engine.create_context(), 4)


def test_auto_takes_a_compiled_engine_into_account(compiled_copy: Path) -> None:
    build(compiled_copy, [])
    assert AOTINDUCTOR in manifest_of(compiled_copy).tactics["2"].milliseconds


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


SPOILT = [(cut, "size: expected"), (flip, "sha256: expected"), (Path.unlink, "size: expected .*, found 'no file'")]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_spoilt_engine_is_refused_and_the_graph_runs_eagerly(
    compiled_copy: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], message: str
) -> None:
    store = EngineStore(compiled_copy)
    spoil(store.folder(identity()) / "aotinductor.pt2")
    with pytest.raises(EngineRefused, match=message):
        store.verified(manifest_of(compiled_copy), AOTINDUCTOR, f"torch {torch.__version__}")
    engine = build(compiled_copy, [], AOTINDUCTOR)
    assert engine.backend == EAGER
    assert "is refused" in caplog.text or "expected" in caplog.text
    assert "runs eagerly: no AOTInductor engine was built for this machine; `stagemesh build" in caplog.text
    check(engine.create_context(), 2)


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_spoilt_onnx_is_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], message: str
) -> None:
    build(tmp_path, [], ONNXRUNTIME)
    spoil(EngineStore(tmp_path).folder(identity()) / "onnxruntime.onnx")
    engine = build(tmp_path, [], ONNXRUNTIME)
    assert engine.backend == ONNXRUNTIME
    assert "size: expected" in caplog.text or "sha256: expected" in caplog.text
    check(engine.create_context(), 2)


def test_an_engine_file_of_another_version_is_refused(tmp_path: Path) -> None:
    build(tmp_path, [], ONNXRUNTIME)
    with pytest.raises(EngineRefused, match=r"version: expected 'onnxruntime 1.*', found 'onnxruntime 0\.1'"):
        EngineStore(tmp_path).verified(manifest_of(tmp_path), ONNXRUNTIME, "onnxruntime 0.1")


def test_without_an_engine_the_graph_runs_eagerly_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert build(tmp_path, [], AOTINDUCTOR).backend == EAGER
    assert "model 'tests-tiny' runs eagerly" in caplog.text


def test_without_a_compiler_a_build_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    builder = EngineBuilder(EngineStore(tmp_path), lambda step: None)
    with pytest.raises(ConfigError, match=r"a build needs a C\+\+ compiler.*CXX=no-such-compiler"):
        builder.build(network(), config(AOTINDUCTOR, compiles=True))
    engine = builder.build(network(), config(compiles=True))
    assert "C++ compiler" in manifest_of(tmp_path).tactics["2"].failures[AOTINDUCTOR]
    check(engine.create_context(), 2)


def test_engines_of_another_kind_are_told_in_the_log_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sources = ("0" * 64, "1" * 64, "2" * 64)
    with caplog.at_level(logging.INFO):
        for source in sources:
            EngineBuilder(EngineStore(tmp_path)).build(network(source=source), config(ONNXRUNTIME))
    told = [record.message for record in caplog.records if "not usable here" in record.message]
    assert len(told) == len(sources) - 1
    for line, old, new in zip(told, sources, sources[1:], strict=False):
        assert f"source: built from '{old}', expected '{new}'" in line


def test_a_manifest_of_an_older_format_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build(tmp_path, [])
    path = EngineStore(tmp_path).folder(identity()) / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 0'))
    check(build(tmp_path, []).create_context(), 2)
    assert caplog.text.count("format: expected 1, found 0") == 1
    assert manifest_of(tmp_path).format == 1


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    store = EngineStore(tmp_path)

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    with store.building(identity()), pytest.raises(StoreUnwritable, match="disk full"):
        store.add_file(Manifest(identity=identity()), ONNXRUNTIME, "1", write)
    assert list(store.folder(identity()).iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "engines").write_text("a file")
    engine = build(tmp_path, [], ONNXRUNTIME)
    assert engine.backend == ONNXRUNTIME
    assert "engines can't be kept in the cache" in caplog.text
    check(engine.create_context(), 3)
    with pytest.raises(ConfigError, match="engines can't be kept in the cache"):
        EngineBuilder(EngineStore(tmp_path)).build(network(), config(compiles=True))


def test_one_backend_runs_all_batch_sizes_if_it_is_near_the_best() -> None:
    assert choose({"a": {"1": 1.0, "8": 4.1}, "b": {"1": 1.5, "8": 4.0}}) == {"1": "a", "8": "a"}
    assert choose({"a": {"1": 1.0, "8": 9.0}, "b": {"1": 1.5, "8": 4.0}}) == {"1": "a", "8": "b"}
    assert choose({"a": {"1": 1.0}, "b": {"1": 0.4, "8": 4.0}}) == {"1": "b", "8": "b"}


def test_two_backends_share_the_batch_sizes(tmp_path: Path) -> None:
    build(tmp_path, [])
    edit_tactic(tmp_path, lambda tactic: tactic.update(choice={"1": ONNXRUNTIME, "4": EAGER}))
    engine = build(tmp_path, [])
    assert engine.backend == "eager+onnxruntime"
    for batch in range(1, 9):
        check(engine.create_context(), batch)


def test_deviation_sees_shapes_and_values_that_are_no_numbers() -> None:
    one, two = np.array([1.0, 2.0]), np.array([1.0, np.nan])
    assert deviation([one], [one * 1.5]) == pytest.approx(0.5)
    assert deviation([two], [two]) == 0
    assert deviation([one], [two]) == deviation([two], [one]) == np.inf
    assert deviation([one], [one, one]) == deviation([one], [one[:1]]) == np.inf
