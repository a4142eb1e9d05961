"""CenterFace: a heat map of face centres, with size, offset and five landmarks at each."""

from __future__ import annotations

import numpy as np

from services.postprocess.boxes import Floats, to_corners
from services.postprocess.heads.base import Candidates, Head, above
from stagemesh.errors import InvalidInput
from stagemesh.oip.signature import TensorSpec
from stagemesh.plugins import Arrays

_STRIDE = 4


class CenterFaceHead(Head):
    """`heat` [N, 1, h, w], sigmoid done; `scale` [N, 2, h, w]: log of height and width; `offset` [N, 2, h, w]: y, x;
    `points` [N, 10, h, w]: five landmarks as y, x in fractions of the box. Cells are 4 pixels wide."""

    landmarks = 5

    def inputs(self) -> tuple[TensorSpec, ...]:
        """See the class."""
        planes = {"heat": 1, "scale": 2, "offset": 2, "points": 2 * self.landmarks}
        return tuple(TensorSpec(name, "FP32", (-1, count, -1, -1)) for name, count in planes.items())

    def candidates(self, outputs: Arrays, threshold: float) -> Candidates:
        """See Head. Raises InvalidInput for maps of different sizes."""
        heat = outputs["heat"][0]
        for name, planes in outputs.items():
            if planes.shape[1:] != heat.shape:
                raise InvalidInput(
                    f"input '{name}': expected maps of {heat.shape} as of 'heat', got {planes.shape[1:]}"
                )
        rows, columns = np.divmod(above(heat.ravel(), threshold), heat.shape[1])
        scale, offset, points = (outputs[name][:, rows, columns].T for name in ("scale", "offset", "points"))
        sizes = _sizes(scale)
        centres = (np.stack([columns, rows], axis=1) + offset[:, ::-1] + np.float32(0.5)) * np.float32(_STRIDE)
        corners = to_corners(np.concatenate([centres, sizes], axis=1).astype(np.float32), "cxcywh")
        landmarks = points.reshape(-1, self.landmarks, 2)[..., ::-1] * sizes[:, None] + corners[:, None, :2]
        return Candidates(
            self.in_pixels(corners), heat[rows, columns], np.zeros(len(rows), np.int32), landmarks - np.float32(0.5)
        )


def _sizes(scale: Floats) -> Floats:
    """Width and height [M, 2] in pixels of log height and width [M, 2]; no overflow, whatever the network gives."""
    return np.exp(np.minimum(scale[:, ::-1], 20)) * np.float32(_STRIDE)
