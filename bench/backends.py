"""Each demo model by backend: eager, AOTInductor, onnxruntime, and what `auto` chose: `python -m bench.backends`.

Engines that are not in the cache are built first, which takes minutes. All backends have the same threads; each round
runs every one of them once, so a slow minute of the machine hits all.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.infer.device import cap_threads, select_device
from services.infer.engine.program import AUTO, BACKENDS
from services.infer.network import BuildOptions, Network, load_network
from stagemesh.cli.fetch import cache_folder
from stagemesh.errors import ConfigError
from stagemesh.machine import cores
from stagemesh.repository import ModelFolder, read_repository, split_batching

BATCHES = (1, 8)
ANY_SIZE = (480, 640)
WARM_UP = 2
FEWEST_ROUNDS = 5
MOST_ROUNDS = 60
SECONDS_PER_ROW = 15.0
GOAL = 1.05


@dataclass(frozen=True, slots=True)
class Row:
    """A model at one batch size: the median milliseconds of a batch by backend, and the backend auto took."""

    model: str
    batch: int
    milliseconds: Mapping[str, float]
    chosen: str

    @property
    def ratio(self) -> float:
        """The time of auto over that of the best backend."""
        return self.milliseconds[AUTO] / min(self.milliseconds[name] for name in BACKENDS if name in self.milliseconds)


def load(folder: ModelFolder, backend: str) -> Network | None:
    """The model on one backend, None (with the reason on stderr) where that can't run it."""
    policy, table = split_batching(folder.table("infer"), folder.where("infer"))
    options = BuildOptions(max_batch=policy.max_batch, compiles=True, report=report)
    try:
        return load_network(folder, {**table, "backend": backend}, select_device("cpu"), cache_folder(), options)
    except ConfigError as error:
        report(f"{folder.name}: no {backend}: {error}")
        return None


def report(text: str) -> None:
    """Say what takes time."""
    print(text, file=sys.stderr, flush=True)


def medians(networks: Mapping[str, Network], image: npt.NDArray[np.uint8]) -> dict[str, float]:
    """The median milliseconds of one batch on each network, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in networks}
    began = time.perf_counter()
    for index in range(WARM_UP + MOST_ROUNDS):
        for name, network in networks.items():
            started = time.perf_counter()
            network.run({"image": image}, {})
            if index >= WARM_UP:
                taken[name].append((time.perf_counter() - started) * 1e3)
        if index >= WARM_UP + FEWEST_ROUNDS and time.perf_counter() - began > SECONDS_PER_ROW:
            break
    return {name: statistics.median(values) for name, values in taken.items()}


def measure(folder: ModelFolder) -> list[Row]:
    """The rows of one model: each batch size that it takes."""
    loaded = {name: load(folder, name) for name in (*BACKENDS, AUTO)}
    networks = {name: network for name, network in loaded.items() if network is not None}
    chosen = networks[AUTO].engine
    height, width = networks[AUTO].signature().inputs[0].shape[1:3]
    size = (height, width) if height > 0 else ANY_SIZE
    rows = []
    for batch in BATCHES:
        if batch <= chosen.profile.max_batch:
            image = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)
            rows.append(Row(folder.name, batch, medians(networks, image), chosen.backend))
    return rows


def show(rows: Sequence[Row]) -> None:
    """Print the table: milliseconds and images a second of each backend, and how auto compares with the best."""
    print(f"\nBackends: p50 ms of a batch (images/s), {cores()} threads, on noise")
    print(f"{'model':<10}{'batch':>6}", *(f"{name:>18}" for name in (*BACKENDS, AUTO)), f"{'auto is':>12}{'/best':>7}")
    for row in rows:
        cells = []
        for name in (*BACKENDS, AUTO):
            ms = row.milliseconds.get(name)
            cells.append(f"{'-':>18}" if ms is None else f"{ms:>9.2f} ({row.batch * 1e3 / ms:>6.1f})")
        verdict = "" if row.ratio <= GOAL else "  above the goal"
        print(f"{row.model:<10}{row.batch:>6}", *cells, f"{row.chosen:>12}{row.ratio:>7.2f}{verdict}")


def main(argv: Sequence[str] = ()) -> None:
    """Measure the models named, all of them where none is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="models of the demo repository (default: all)")
    names = parser.parse_args(argv).models
    cap_threads(0)
    folders = read_repository(Path("models"), names).values()
    rows = [
        row
        for folder in folders
        if isinstance(folder, ModelFolder) and "infer" in folder.tables
        for row in measure(folder)
    ]
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
