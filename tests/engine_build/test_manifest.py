"""Manifests: each field that does not match is a reason; what is no manifest is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.infer.engine.machine import Machine, instruction_sets
from services.infer.engine.manifest import EngineRefused, Manifest, Tactic
from services.infer.engine.profile import OptimizationProfile, ShapeRange
from services.infer.engine.store import EngineStore
from tests.engine_build.tiny import CPU, PROFILE, identity

Content = dict[str, Any]


@pytest.fixture
def manifest_file(tmp_path: Path) -> Path:
    """A manifest that fits this machine, where the store looks for it."""
    folder = EngineStore(tmp_path).folder(identity())
    folder.mkdir(parents=True)
    path = folder / "manifest.json"
    Manifest(identity=identity()).write(path)
    return path


def changed(path: Path, change: Callable[[Content], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def find(path: Path) -> Manifest | None:
    return EngineStore(path.parents[2]).find(identity())


def test_a_manifest_reads_as_it_was_written(tmp_path: Path) -> None:
    tactic = Tactic(
        choice={"1": "eager"}, milliseconds={"eager": {"1": 1.5}}, errors={"eager": 0.0}, failures={"x": "y"}
    )
    written = Manifest(identity=identity()).with_tactic(2, tactic)
    written.write(tmp_path / "manifest.json")
    assert Manifest.read(tmp_path / "manifest.json") == written


def test_a_fitting_manifest_is_found(manifest_file: Path) -> None:
    assert find(manifest_file) == Manifest(identity=identity())


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("format",), 2, "format: expected 1, found 2"),
        (("identity", "model"), "other", "model: built from 'other', expected 'tests-tiny'"),
        (("identity", "source"), "0" * 64, "source: built from '0{64}', expected '[0-9a-f]{64}'"),
        (("identity", "dtype"), "fp16", "dtype: built from 'fp16', expected 'fp32'"),
        (("identity", "profile", "inputs", 0, "max"), [16, 16, 16, 3], r"profile: built for .*to \[16, 16, 16, 3\]"),
        (("identity", "machine", "device"), "NVIDIA H100", "device: built for 'NVIDIA H100', found 'cpu'"),
        (("identity", "machine", "capability"), "sm_90", "capability: built for 'sm_90', found ''"),
        (("identity", "machine", "architecture"), "riscv64", "architecture: built for 'riscv64', found"),
        (("identity", "machine", "torch_version"), "1.0", "torch_version: built for '1.0', found"),
        (("identity", "machine", "cpu_flags"), ["avx9", "sse2"], "a processor with avx9.*, which this one lacks"),
    ],
)
def test_each_field_that_differs_is_a_reason(
    manifest_file: Path, keys: tuple[str | int, ...], value: object, message: str
) -> None:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    changed(manifest_file, change)
    with pytest.raises(EngineRefused, match=message):
        find(manifest_file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a manifest in JSON"),
        ("{", "expected a manifest in JSON"),
        ("[]", "expected a JSON object, found list"),
        ("{}", "key 'identity' is missing"),
        ('{"identity": 3}', "key 'identity': expected a table, found 3"),
        ('{"identity": {}, "extra": 1}', "unknown key 'extra'"),
    ],
)
def test_what_is_no_manifest_is_refused(manifest_file: Path, text: str, message: str) -> None:
    manifest_file.write_text(text)
    with pytest.raises(EngineRefused, match=message):
        find(manifest_file)


def test_the_engine_of_a_lesser_processor_may_run_here(manifest_file: Path) -> None:
    changed(manifest_file, lambda content: content["identity"]["machine"]["cpu_flags"].clear())
    assert find(manifest_file) is not None


def test_engines_of_other_machines_are_told(manifest_file: Path) -> None:
    other = replace(identity(), machine=replace(Machine.of(CPU), torch_version="1.0"))
    folder = EngineStore(manifest_file.parents[2]).folder(other)
    folder.mkdir()
    Manifest(identity=other).write(folder / "manifest.json")
    (reason,) = EngineStore(manifest_file.parents[2]).unfit(identity())
    assert "torch_version: built for '1.0'" in reason


def test_every_part_of_the_identity_changes_the_key() -> None:
    wider = OptimizationProfile((replace(PROFILE.inputs[0], max=(16, 16, 16, 3)),))
    machine = Machine.of(CPU)
    others = [
        replace(identity(), model="b"),
        replace(identity(), source="b"),
        replace(identity(), dtype="fp16"),
        replace(identity(), profile=wider),
        *(replace(identity(), machine=replace(machine, **{name: "b"})) for name in ("device", "torch_version")),
        replace(identity(), machine=replace(machine, cpu_flags=("b",))),
    ]
    assert len({identity().key, *(other.key for other in others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("low", "opt", "high"),
    [((2,), (1,), (3,)), ((1,), (4,), (3,)), ((0,), (1,), (1,)), ((1, 1), (1,), (1,)), ((),) * 3],
)
def test_a_profile_is_ordered(low: tuple[int, ...], opt: tuple[int, ...], high: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="profile of 'x': expected 0 < min <= opt <= max"):
        ShapeRange("x", "uint8", low, opt, high)


def test_instruction_sets_are_read_from_x86_and_arm() -> None:
    x86 = "processor : 0\nflags\t\t: fpu vme sse2 avx512f avx hypervisor lm\n"
    assert instruction_sets(x86) == ("avx", "avx512f", "sse2")
    assert instruction_sets("Features\t: fp asimd sve cpuid\n") == ("asimd", "fp", "sve")
    assert instruction_sets("") == ()
