"""The reference of the pipeline: decode, network and top-k in one process, without any wire between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from services.infer.device import cap_threads, select_device
from services.infer.network import load_network
from services.postprocess.registry import POSTPROCESSORS
from services.preprocess.registry import PREPROCESSORS
from stagemesh.plugins import Arrays, load_plugin
from stagemesh.repository import read_model, split_batching
from stagemesh.settings import default_cache


class InProcess:
    """The plug-ins and the network of `classify`, the very ones that the services run."""

    def __init__(self, threads: int) -> None:
        folder = read_model(Path("models/classify"))

        def table(stage: str) -> dict[str, object]:
            return split_batching(folder.table(stage), folder.where(stage))[1]

        cap_threads(threads)
        self._decode = load_plugin("preprocess", folder, table("preprocess"), PREPROCESSORS)
        self._network = load_network(folder, table("infer"), select_device("cpu"), default_cache())
        self._top_k = load_plugin("postprocess", folder, table("postprocess"), POSTPROCESSORS)

    def classify(self, photo: bytes) -> Arrays:
        """The labels and scores of one encoded photo."""
        decoded = self._decode.run({"image": np.array([photo], object)}, {})
        logits = self._network.run({"image": decoded["image"]}, {})
        return self._top_k.run(logits, {})
