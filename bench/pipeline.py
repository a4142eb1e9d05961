"""The pipeline of four processes beside the same decode, network and top-k called in one process.

Each round runs every contestant once, so a slow minute of the machine hits all of them. The reference is the better
of a serial loop and two threads; the networks of both sides have the same torch threads.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench.in_process import InProcess
from bench.processes import ALLOCATOR, free_port
from stagemesh import AsyncClient, Client
from stagemesh.errors import StagemeshError

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
    runs = contestants(target, photo, InProcess(threads=os.cpu_count() or 1))
    for run in runs.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            rates[name].append(images_per_second(run))
    return {name: statistics.median(values) for name, values in rates.items()}


def wait_until_ready(mesh: subprocess.Popen[bytes], target: str) -> None:
    """Return when the gateway answers that `classify` is ready at every stage."""
    with Client(target) as client:
        while mesh.poll() is None:
            try:
                if client.model_ready("classify"):
                    return
            except StagemeshError:
                pass
            time.sleep(0.2)
    raise SystemExit("the mesh did not start")


def main() -> None:
    """Start a mesh, measure, print the table."""
    base = free_port()
    command = [sys.executable, "-m", "stagemesh", "up", "--models", "classify", "--port-base", str(base)]
    mesh = subprocess.Popen(command, env={**os.environ, **ALLOCATOR}, stdout=subprocess.DEVNULL)
    try:
        target = f"127.0.0.1:{base + 1}"
        wait_until_ready(mesh, target)
        rates = measure(target)
    finally:
        mesh.terminate()
        mesh.wait(30)
    reference = max(rate for name, rate in rates.items() if name.startswith("in process"))
    print(f"\nThe pipeline: {PHOTO.name} to top-5, images a second (median of {ROUNDS} rounds of {IMAGES})")
    for name, rate in rates.items():
        print(f"  {name:<24} {rate:>7.1f}   {rate / reference:>5.2f} x the better in-process loop")
