"""Plug-ins that do what the request's parameters `<stage>_ms` and `<stage>_raises` say."""

from __future__ import annotations

import time
from collections.abc import Mapping

from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays, Plugin, Postprocessor, Preprocessor


def act(plugin: Plugin, stage: str, number: object, parameters: Mapping[str, Parameter]) -> None:
    """Write the number of the request into the model's log, sleep, raise."""
    with (plugin.folder.path / "computed.log").open("a") as log:
        log.write(f"{stage} {number}\n")
    time.sleep(float(parameters.get(f"{stage}_ms", 0)) / 1e3)
    if parameters.get(f"{stage}_raises"):
        raise RuntimeError(f"told to fail at {stage}")


class Before(Preprocessor):
    """Gives the image it takes."""

    def signature(self) -> Signature:
        image = TensorSpec("image", "UINT8", (-1, 2, 2, 3))
        return Signature((image,), (image,))

    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        act(self, "preprocess", inputs["image"][0, 0, 0, 0], parameters)
        return inputs


class After(Postprocessor):
    """Gives the first logit of each sample, which is the request's number."""

    def signature(self) -> Signature:
        return Signature((TensorSpec("logits", "FP32", (-1, 4)),), (TensorSpec("number", "FP32", (-1,)),))

    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        act(self, "postprocess", int(inputs["logits"][0, 0]), parameters)
        return {"number": inputs["logits"][:, 0]}
