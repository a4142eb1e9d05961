"""One stage whose model comes and goes: what a plug-in's file is asked, and when."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stagemesh import AsyncClient, Client, RemoteFailure
from tests.mesh.processes import ServiceProcess, running
from tests.mesh.repositories import edit_model

pytestmark = pytest.mark.xdist_group("repository stage")

PLUGIN = """
import json
import time

from stagemesh import Preprocessor, Signature, TensorSpec

class Slow(Preprocessor):
    def __init__(self, options, folder):
        super().__init__(options, folder)
        self.log = folder.path / "life.log"
        self.write("begin")
        time.sleep(0.3)
        self.write("end")

    def write(self, word):
        with self.log.open("a") as log:
            log.write(word + "\\n")

    def signature(self):
        text = TensorSpec("text", "BYTES", (-1,))
        return Signature((text,), (TensorSpec("number", "FP32", (-1,)),))

    def run(self, inputs, parameters):
        import numpy as np
        return {"number": np.array([json.loads(text) for text in inputs["text"]], np.float32) * 1}

    def close(self):
        self.write("closed")
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A preprocess stage with the plug-in above as the model `slow`."""
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "model.toml").write_text('[model]\ntask = "custom"\n[preprocess]\nplugin = "file:my.py:Slow"\n')
    (folder / "my.py").write_text(PLUGIN)
    service = ServiceProcess("preprocess", models=tmp_path)
    with running(service):
        yield service


async def test_loads_of_one_model_run_one_after_the_other(stage: ServiceProcess, tmp_path: Path) -> None:
    async with AsyncClient(stage.target) as client:
        await asyncio.gather(*(client.load_model("slow") for _ in range(3)))
        with pytest.raises(RemoteFailure):
            await client.load_model("slow/../slow")
    lines = [line for line in (tmp_path / "slow" / "life.log").read_text().split() if line != "closed"]
    assert lines == ["begin", "end"] * 4


async def test_a_load_goes_on_when_its_caller_gives_up(stage: ServiceProcess, tmp_path: Path) -> None:
    edit_model(tmp_path / "slow", 'task = "custom"', 'task = "custom"\nversion = "2"')
    async with AsyncClient(stage.target) as client:
        with pytest.raises(Exception, match="time"):
            await client.load_model("slow", deadline_s=0.1)
        deadline = time.monotonic() + 10
        while (await client.models())[0].version != "2":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    while "closed" not in (tmp_path / "slow" / "life.log").read_text():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def test_a_plugin_is_read_again_and_named_with_its_own_line(stage: ServiceProcess, tmp_path: Path) -> None:
    def numbers(*texts: bytes) -> list[float]:
        return client.infer("slow", {"text": np.array(texts, object)})["number"].tolist()

    with Client(stage.target) as client:
        assert numbers(b"1", b"2") == [1.0, 2.0]
        edit_model(tmp_path / "slow", "* 1", "* 3", "my.py")
        client.load_model("slow")
        assert numbers(b"1", b"2") == [3.0, 6.0]
        line = (tmp_path / "slow" / "my.py").read_text().splitlines().index(
            '        return {"number": np.array([json.loads(text) for text in inputs["text"]], np.float32) * 3}'
        ) + 1
        with pytest.raises(RemoteFailure) as raised:
            numbers(b"{")
        words = rf"preprocess@.*: model 'slow': Slow raised JSONDecodeError at my\.py:{line}: Expecting property name"
        assert re.match(words, str(raised.value)), raised.value
        assert raised.value.status == "INTERNAL"
        assert numbers(b"5") == [15.0]
