"""A plug-in that computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.plugins import Postprocessor


class Identity(Postprocessor):
    """`data` UINT8 [N, bytes] in; out come `data` itself and the tiny `size` INT64 [N]."""

    def signature(self) -> Signature:
        data = TensorSpec("data", "UINT8", (-1, -1))
        return Signature((data,), (data, TensorSpec("size", "INT64", (-1,))))

    def run(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        data = inputs["data"]
        return {"data": data, "size": np.full(len(data), data.shape[1], np.int64)}
