"""Class ids and their names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stagemesh.errors import StageFailed
from stagemesh.repository import ModelFolder


class Labels:
    """The labels of a model; without any, a class is called by its id in decimal."""

    def __init__(self, folder: ModelFolder) -> None:
        self._model = folder.name
        self._names = np.array([label.encode() for label in folder.labels], dtype=object)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, class_ids: NDArray[np.int32]) -> NDArray[np.object_]:
        """The labels, as bytes, of class ids of any shape. Raises StageFailed for an id that has none."""
        if not len(self._names):
            return class_ids.astype(np.bytes_).astype(object)
        bad = class_ids[(class_ids < 0) | (class_ids >= len(self._names))]
        if bad.size:
            raise StageFailed(
                f"expected class ids from 0 to {len(self._names) - 1}, the labels of model '{self._model}', "
                f"found {int(bad[0])}"
            )
        return np.take(self._names, class_ids)
