"""The pipeline of four processes beside the same decode, network and top-k called in one process.

Each round runs every contestant once, so a slow minute of the machine hits all of them. The reference is the better
of a serial loop and two threads; both sides have the same allocator settings and torch threads: STAGEMESH_THREADS
where it is set, else one a core.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.in_process import InProcess
from bench.processes import restart_with_allocator
from stagemesh import AsyncClient
from stagemesh.cli.local.private import PrivateMesh

PHOTO = Path("examples/photos/coffee.png")
CONCURRENCY = (1, 8, 32)
IMAGES = 96
ROUNDS = 5


def images_per_second(run: Callable[[], object]) -> float:
    """Run something that handles IMAGES photos; how many that is a second."""
    started = time.perf_counter()
    run()
    return IMAGES / (time.perf_counter() - started)


async def through_mesh(target: str, photo: bytes, concurrency: int) -> None:
    """Send IMAGES requests, `concurrency` of them at once."""
    left = iter(range(IMAGES))

    async def work(client: AsyncClient) -> None:
        for _ in left:
            await client.infer_image("classify", photo)

    async with AsyncClient(target) as client:
        await asyncio.gather(*(work(client) for _ in range(concurrency)))


def run_mesh(target: str, photo: bytes, concurrency: int) -> None:
    """`through_mesh`, to its end."""
    asyncio.run(through_mesh(target, photo, concurrency))


def contestants(target: str, photo: bytes, local: InProcess) -> dict[str, Callable[[], object]]:
    """By name what each of them does with IMAGES photos."""
    photos = [photo] * IMAGES
    pool = ThreadPoolExecutor(2)
    runs: dict[str, Callable[[], object]] = {
        "in process, serial": lambda: list(map(local.classify, photos)),
        "in process, 2 threads": lambda: list(pool.map(local.classify, photos)),
    }
    for concurrency in CONCURRENCY:
        runs[f"mesh, concurrency {concurrency}"] = partial(run_mesh, target, photo, concurrency)
    return runs


def measure(target: str) -> dict[str, float]:
    """The median images a second of each contestant."""
    photo = PHOTO.read_bytes()
    runs = contestants(target, photo, InProcess(threads=int(os.environ.get("STAGEMESH_THREADS") or 0)))
    for run in runs.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            rates[name].append(images_per_second(run))
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    """Start a mesh, measure, print the table."""
    restart_with_allocator()
    with closing(PrivateMesh("classify")) as mesh:
        rates = measure(mesh.target)
    reference = max(rate for name, rate in rates.items() if name.startswith("in process"))
    print(f"\nThe pipeline: {PHOTO.name} to top-5, images a second (median of {ROUNDS} rounds of {IMAGES})")
    for name, rate in rates.items():
        print(f"  {name:<24} {rate:>7.1f}   {rate / reference:>5.2f} x the better in-process loop")
