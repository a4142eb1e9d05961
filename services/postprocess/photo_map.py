"""The way back from the network's image to the photo.

Coordinates count pixels, x to the right and y down; an integer is the centre of a pixel, so an image of width w
spans -0.5 … w - 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.postprocess.boxes import Floats
from stagemesh.errors import InvalidInput
from stagemesh.oip.signature import TensorSpec
from stagemesh.plugins import Arrays

META = (TensorSpec("meta.transform", "FP32", (-1, 6)), TensorSpec("meta.size", "INT32", (-1, 2)))
"""The inputs that `PhotoMap.read` needs; the preprocess stage gives them."""


@dataclass(frozen=True, slots=True)
class PhotoMap:
    """One photo: `matrix` [2, 3] takes network pixels to pixels of the photo, which is `height` by `width`."""

    matrix: NDArray[np.float64]
    height: int
    width: int

    @classmethod
    def read(cls, inputs: Arrays) -> list[PhotoMap]:
        """The map of each photo of a batch. Raises InvalidInput for a photo without pixels or a map that is none."""
        maps = []
        for index, (transform, size) in enumerate(zip(inputs["meta.transform"], inputs["meta.size"], strict=True)):
            matrix = transform.astype(np.float64).reshape(2, 3)
            if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:, :2])) < 1e-12:
                raise InvalidInput(
                    f"input 'meta.transform', row {index}: expected an invertible 2x3 matrix, "
                    f"found {transform.tolist()}"
                )
            if size.min() < 1:
                raise InvalidInput(
                    f"input 'meta.size', row {index}: expected sides of 1 or more, found {size.tolist()}"
                )
            maps.append(cls(matrix, int(size[0]), int(size[1])))
        return maps

    def points(self, points: NDArray[Any]) -> Floats:
        """Points [..., 2] (x, y) of the network's image in the photo; they may lie outside of it."""
        moved: NDArray[Any] = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved.astype(np.float32)

    def boxes(self, boxes: NDArray[Any]) -> Floats:
        """Boxes [M, 4] of the network's image in the photo, cut at its edges; a turned one becomes its bounds."""
        centres = self.points((boxes[:, :2] + boxes[:, 2:]) / 2)
        halves = (boxes[:, 2:] - boxes[:, :2]) / 2 @ np.abs(self.matrix[:, :2]).T
        edges = np.array([self.width, self.height, self.width, self.height]) - 0.5
        corners = np.concatenate([centres - halves, centres + halves], axis=1)
        cut: NDArray[Any] = np.clip(corners, -0.5, edges)
        return cut.astype(np.float32)

    def network_axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the photo's columns [width] and rows [height] lie in the network's image.

        Raises InvalidInput for a map that turns or shears: rows would not stay rows.
        """
        (sx, tilt_x, ox), (tilt_y, sy, oy) = self.matrix
        if tilt_x or tilt_y:
            raise InvalidInput(
                f"input 'meta.transform': expected a map without rotation, found {self.matrix.ravel().tolist()}"
            )
        return (np.arange(self.width) - ox) / sx, (np.arange(self.height) - oy) / sy
