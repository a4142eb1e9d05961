"""Where onnxruntime is not installed: `auto` runs eagerly, and says once what would help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import logging, sys
sys.modules["onnxruntime"] = None  # as Python marks a module that must not be imported
logging.basicConfig(level=logging.INFO, format="%(message)s")
from pathlib import Path
from services.infer.engine.builder import EngineBuilder
from services.infer.engine.store import EngineStore
from stagemesh.errors import ConfigError
from tests.engine_build.tiny import check, config, network
builder = EngineBuilder(EngineStore(Path(sys.argv[1])))
for source in ("0" * 64, "1" * 64, "0" * 64):
    engine = builder.build(network(source=source), config())
    check(engine.create_context(), 5)
    print(engine.backend)
try:
    builder.build(network(), config("onnxruntime"))
except ConfigError as error:
    print(error)
"""


def test_auto_runs_eagerly_and_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    missing = "onnxruntime is not installed: pip install 'stagemesh[onnxruntime]'"
    assert done.stdout.splitlines() == ["eager"] * 3 + [f"backend 'onnxruntime': {missing}"]
    assert done.stderr.count(missing) == 1
