"""docs/models.md: its example is served and answers, and its tables are those of the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.infer.table import InferTable
from services.preprocess.registry import PREPROCESSORS
from stagemesh import Client, RemoteFailure
from stagemesh.errors import ConfigError
from stagemesh.repository import Batching, read_model
from tests.mesh.processes import ROOT, Mesh, running_mesh

pytestmark = pytest.mark.xdist_group("models doc")

DOC = (ROOT / "docs" / "models.md").read_text()
BLOCK = re.compile(r"`models/(tint/[\w.]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
SETUP = re.compile(r"^python -c .*$", re.MULTILINE)
KEY = re.compile(r"^\| `(\w+)` \| (?:`(.*?)`|required|none) \| \S")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A mesh with the example, made as the text says."""
    root = tmp_path_factory.mktemp("doc")
    (root / "models" / "tint").mkdir(parents=True)
    files = dict(BLOCK.findall(DOC))
    assert set(files) == {f"tint/{name}" for name in ("model.toml", "labels.txt", "net.py", "strongest.py")}
    for name, text in files.items():
        (root / "models" / name).write_text(text)
    command = SETUP.findall(DOC)
    assert len(command) == 1
    subprocess.run([sys.executable, *shlex.split(command[0])[1:]], cwd=root, check=True)
    with running_mesh(models=root / "models") as running:
        yield running


def photo(*colour: int) -> bytes:
    file = BytesIO()
    Image.fromarray(np.full((40, 60, 3), colour, np.uint8)).save(file, "png")
    return file.getvalue()


def test_the_example_answers(mesh: Mesh) -> None:
    with Client(mesh.target) as client:
        result = client.infer_image("tint", [photo(200, 10, 10), photo(0, 20, 90), photo(100, 99, 98)])
        assert result["labels"].tolist() == [b"red", b"blue", b"none"]
        result = client.infer_image("tint", photo(100, 99, 98), parameters={"margin": 0.5})
        assert result["labels"].tolist() == [b"red"]
        with pytest.raises(RemoteFailure, match="model 'tint': parameter 'margin': expected a number of at least 0"):
            client.infer_image("tint", photo(1, 2, 3), parameters={"margin": "wide"})


def keys(heading: str) -> dict[str, str | None]:
    """Keys and defaults of the first table after `heading`."""
    lines = DOC[DOC.index(heading) :].splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("| key "))
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        match = KEY.match(line)
        assert match, f"{heading}: {line}"
        found[match[1]] = match[2]
    return found


def plain(value: object) -> object:
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


OPTIONS: Mapping[str, Any] = {
    '## [preprocess] with plugin = "image"': PREPROCESSORS["image"]().Options,
    "## [infer]": InferTable,
    "## Batching": Batching,
}


@pytest.mark.parametrize("heading", OPTIONS)
def test_the_tables_are_those_of_the_code(heading: str) -> None:
    written = keys(heading)
    options = {field.name: field for field in fields(OPTIONS[heading])}
    assert written.keys() == options.keys()
    for name, text in written.items():
        field = options[name]
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if text is None:
            assert default is None or default is MISSING, name
        else:
            assert tomllib.loads(f"x = {text}")["x"] == plain(default), name


def test_the_table_of_model(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text("[model]\nx = 1\n")
    with pytest.raises(ConfigError) as raised:
        read_model(tmp_path)
    assert str(raised.value).endswith("expected one of: " + ", ".join(keys("## [model]")))
