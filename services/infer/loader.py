"""Makes the network of a model folder, warm."""

from __future__ import annotations

from collections.abc import Mapping

from services.infer.device import cap_threads, select_device
from services.infer.network import BuildOptions, load_network
from services.infer.settings import InferSettings
from stagemesh.repository import Batching, ModelFolder
from stagemesh.stage.kind import INFER
from stagemesh.stage.loading import StageLoader
from stagemesh.stage.runner import Runner


def loader(settings: InferSettings) -> StageLoader:
    """One batch at a time: a network uses all its threads, or the whole device."""
    cap_threads(settings.threads)
    device = select_device(settings.device)

    def load(folder: ModelFolder, table: Mapping[str, object], policy: Batching) -> Runner:
        network = load_network(folder, table, device, settings.cache, BuildOptions(max_batch=policy.max_batch))
        network.warm_up((1, policy.max_batch))
        return network

    return StageLoader(INFER, "pytorch", 1, load)
