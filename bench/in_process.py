"""The reference of the pipeline: decode, network and top-k in one process, without any wire between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.infer.device import cap_threads, select_device
from services.infer.network import BuildOptions, load_network
from services.postprocess.registry import POSTPROCESSORS
from services.preprocess.registry import PREPROCESSORS
from services.preprocess.resize import one_thread
from stagemesh.cli.fetch import cache_folder
from stagemesh.plugins import Arrays, load_plugin
from stagemesh.repository import Batching, read_model, split_batching


class InProcess:
    """The plug-ins and the network of `classify`, the very ones that the services run."""

    def __init__(self, threads: int) -> None:
        folder = read_model(Path("models/classify"))

        def table(stage: str) -> tuple[Batching, dict[str, object]]:
            return split_batching(folder.table(stage), folder.where(stage))

        cap_threads(threads)
        one_thread()
        self._decode = load_plugin("preprocess", folder, table("preprocess")[1], PREPROCESSORS)
        policy, infer = table("infer")
        build = BuildOptions(max_batch=policy.max_batch)
        self._network = load_network(folder, infer, select_device("cpu"), cache_folder(), build)
        self._top_k = load_plugin("postprocess", folder, table("postprocess")[1], POSTPROCESSORS)

    def classify(self, photo: bytes) -> Arrays:
        """The labels and scores of one encoded photo."""
        return self.classify_batch([photo])

    def classify_batch(self, photos: Sequence[bytes]) -> Arrays:
        """The labels and scores of encoded photos, in one batch."""
        decoded = self._decode.run({"image": np.array(photos, object)}, {})
        logits = self._network.run({"image": decoded["image"]}, {})
        return self._top_k.run(logits, {})
