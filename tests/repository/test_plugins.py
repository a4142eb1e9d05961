"""How plug-ins are found and made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.postprocess.registry import POSTPROCESSORS
from services.preprocess.registry import PREPROCESSORS
from stagemesh.errors import ConfigError
from stagemesh.plugins import Kind, Plugin, load_from_file, load_plugin
from stagemesh.repository import ModelFolder

PLUGIN = """
from __future__ import annotations
from dataclasses import dataclass
from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.plugins import Preprocessor

@dataclass(frozen=True)
class Options:
    gain: float = 1.0

class Gain(Preprocessor):
    Options = Options
    def signature(self):
        spec = TensorSpec("x", "FP32", (-1,))
        return Signature((spec,), (spec,))
    def run(self, inputs, parameters):
        return {"x": inputs["x"] * self.options.gain}

class Half(Preprocessor):
    def signature(self): ...

class Picky(Gain):
    def __init__(self, options, folder):
        raise RuntimeError("no hardware")

class Other:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    path = tmp_path / "m"
    path.mkdir()
    (path / "my_pre.py").write_text(PLUGIN)
    (path / "broken.py").write_text("x = 1\nimport does_not_exist_anywhere\n")
    (path / "syntax.py").write_text("x = 1\ndef (:\n")
    (path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "outside.py").write_text(PLUGIN)
    return ModelFolder("m", path, "custom", (), {})


def load(folder: ModelFolder, kind: Kind = "preprocess", **table: object) -> Plugin:
    return load_plugin(kind, folder, table, PREPROCESSORS if kind == "preprocess" else POSTPROCESSORS)


def test_registered_names(folder: ModelFolder) -> None:
    assert type(load(folder, plugin="image", size=[8, 8])).__name__ == "ImagePreprocessor"
    assert type(load(folder, "postprocess", plugin="classify")).__name__ == "ClassifyPostprocessor"


def test_file_plugin_gets_its_options(folder: ModelFolder) -> None:
    plugin = load(folder, plugin="file:my_pre.py:Gain", gain=3)
    assert plugin.run({"x": np.ones(2, np.float32)}, {})["x"].tolist() == [3.0, 3.0]


def test_entry_point(folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "gains-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "gains_package.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gains\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[stagemesh.preprocessors]\ngain = gains_package:Gain\ngone = gains_package:Gone\n"
    )
    monkeypatch.syspath_prepend(str(site))
    assert type(load(folder, plugin="gain")).__name__ == "Gain"
    with pytest.raises(ConfigError, match="can't import gains_package:Gone: AttributeError"):
        load(folder, plugin="gone")
    with pytest.raises(ConfigError, match="unknown plug-in 'gian'; known: gain, gone, image"):
        load(folder, plugin="gian")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "[preprocess]: key 'plugin': expected a string, found None"),
        ({"plugin": "imgae"}, "unknown plug-in 'imgae'; known: image"),
        ({"plugin": "image", "size": [8, 8], "sise": 1}, "[preprocess]: unknown key 'sise'; expected one of: size"),
        ({"plugin": "file:my_pre.py"}, "expected 'file:module.py:name', found 'file:my_pre.py'"),
        ({"plugin": "file:my_pre.py:Nothing"}, "expected 'Nothing' in my_pre.py, found no such name"),
        ({"plugin": "file:gone.py:Gain"}, "expected the file 'gone.py'"),
        ({"plugin": "file:../outside.py:Gain"}, "expected a file inside"),
        ({"plugin": "file:my_pre.py:Other"}, "expected a subclass of stagemesh.plugins.Preprocessor"),
        ({"plugin": "file:my_pre.py:Half"}, "found no run"),
        ({"plugin": "file:my_pre.py:Picky"}, "can't be made: RuntimeError: no hardware"),
        ({"plugin": "file:my_pre.py:Gain", "gain": "x"}, "key 'gain': expected a number, found 'x'"),
        ({"plugin": "file:broken.py:Gain"}, "broken.py, line 2)"),
        ({"plugin": "file:syntax.py:Gain"}, "syntax.py, line 2)"),
        ({"plugin": "file:leaves.py:Gain"}, "SystemExit: 3"),
    ],
)
def test_bad_plugins(folder: ModelFolder, table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(folder, **table)
    assert message in str(raised.value)
    assert "model.toml [preprocess]" in str(raised.value)


def test_a_preprocessor_is_no_postprocessor(folder: ModelFolder) -> None:
    with pytest.raises(ConfigError, match=r"expected a subclass of stagemesh\.plugins\.Postprocessor"):
        load(folder, "postprocess", plugin="file:my_pre.py:Gain")


def test_equal_file_names_of_two_models_do_not_meet(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(f"def who():\n    return {name!r}\n")
    found = [load_from_file(tmp_path / name, "file:net.py:who", "t") for name in ("a", "b")]
    assert [who() for who in found if callable(who)] == ["a", "b"]
