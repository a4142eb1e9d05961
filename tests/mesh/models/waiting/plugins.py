"""A plug-in that takes its time to load."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays, Preprocessor
from stagemesh.repository import ModelFolder


class Waiting(Preprocessor):
    """Gives what it takes, once the test has let it load."""

    def __init__(self, options: Any, folder: ModelFolder) -> None:
        super().__init__(options, folder)
        while not (folder.path / "go").exists():
            time.sleep(0.02)

    def signature(self) -> Signature:
        number = TensorSpec("number", "FP32", (-1,))
        return Signature((number,), (number,))

    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        return inputs
