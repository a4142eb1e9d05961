"""`stagemesh new`: what it writes is accepted, complete, and true to the code that reads it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from services.infer.table import InferTable
from services.postprocess.registry import POSTPROCESSORS
from services.preprocess.registry import PREPROCESSORS
from stagemesh.cli.main import main
from stagemesh.cli.templates import NewTask
from stagemesh.errors import InvalidInput
from stagemesh.plugins import Kind, Plugin, load_plugin
from stagemesh.repository import Batching, ModelFolder, parse_table, read_model, split_batching

TASKS = get_args(NewTask)
COMMENTED = re.compile(r"^# (?P<line>(?P<key>\w+) = .*)$", re.MULTILINE)


@pytest.fixture(params=TASKS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> ModelFolder:
    """A new model of each task."""
    assert main(["new", request.param, "mine", "--repository", str(tmp_path)]) == 0
    return read_model(tmp_path / "mine")


def plugin(folder: ModelFolder, kind: Kind) -> Plugin:
    builtins = PREPROCESSORS if kind == "preprocess" else POSTPROCESSORS
    _, table = split_batching(folder.table(kind), folder.where(kind))
    return load_plugin(kind, folder, table, builtins)


def commented(folder: ModelFolder, table: str) -> dict[str, Any]:
    """The keys of a table that are commented out, with the values written there."""
    text = (folder.path / "model.toml").read_text()
    section = re.split(r"^\[(\w+)\]", text, flags=re.MULTILINE)
    lines = COMMENTED.finditer(section[section.index(table) + 1])
    return {match["key"]: tomllib.loads(match["line"])[match["key"]] for match in lines}


def defaults(cls: type[Any]) -> Mapping[str, Any]:
    return {f.name: f.default_factory() if f.default_factory is not MISSING else f.default for f in fields(cls)}


def plain(value: object) -> object:
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def test_the_folder_is_accepted_by_every_stage(folder: ModelFolder) -> None:
    before, after = plugin(folder, "preprocess"), plugin(folder, "postprocess")
    assert "image" in [spec.name for spec in before.signature().outputs]
    batching, table = split_batching(folder.table("infer"), folder.where("infer"))
    network = parse_table(InferTable, table, folder.where("infer"))
    assert batching == Batching()
    assert set(network.outputs) <= {spec.name for spec in after.signature().inputs}
    assert folder.version == "1"


def test_every_key_is_there_with_its_default(folder: ModelFolder) -> None:
    classes = {"preprocess": type(plugin(folder, "preprocess")).Options, "infer": InferTable}
    classes["postprocess"] = type(plugin(folder, "postprocess")).Options
    for table, cls in classes.items():
        known = {**defaults(cls), **(defaults(Batching) if table == "infer" else {})}
        shown = commented(folder, table)
        missing = known.keys() - shown.keys() - folder.table(table).keys()
        assert not missing, f"[{table}] lacks {missing}"
        for key, value in shown.items():
            no_default = known[key] is None or known[key] is MISSING
            assert no_default or value == plain(known[key]), f"[{table}] {key}"


def test_the_skeleton_of_plugins_runs(tmp_path: Path) -> None:
    assert main(["new", "custom", "mine", "--repository", str(tmp_path)]) == 0
    folder = read_model(tmp_path / "mine")
    pixels = np.full((1, 2, 2, 3), 200, np.uint8)
    assert plugin(folder, "preprocess").run({"pixels": pixels}, {})["image"].tolist() == pixels.tolist()
    after, inputs = plugin(folder, "postprocess"), {"output": np.array([[0.5, 2.0, 1.0, 0.0]], np.float32)}
    assert after.run(inputs, {})["best"].tolist() == [[1, 2, 0]]
    assert after.run(inputs, {"top": 1})["values"].tolist() == [[2.0]]
    with pytest.raises(InvalidInput, match="parameter 'top': expected a whole number above 0, found 'x'"):
        after.run(inputs, {"top": "x"})


def test_what_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = ["--repository", str(tmp_path)]
    assert main(["new", "classify", "mine", *repository]) == 0
    assert "stagemesh load mine" in capsys.readouterr().out
    for arguments, words in (
        (["classify", "mine", *repository], "expected no such folder yet, found one"),
        (["classify", "../mine", *repository], "expected a folder name of the form"),
        (["classify", "mine", "--repository", str(tmp_path / "none")], "expected a folder, found none at"),
    ):
        assert main(["new", *arguments]) == 2
        assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
