"""A generated trace of chat traffic, and how a trace is replayed: each request matched, then put."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Iterator
from pathlib import Path

Trace = list[list[int]]  # for each request the ids of its blocks, equal ids for equal prefixes


def generate(requests: int = 12_000, seed: int = 7, prompts: int = 40, sessions_per_s: float = 2.0) -> Trace:
    """Sessions that open with one of `prompts` system prompts (Zipf), half of them with a Pareto number of turns.

    Each turn repeats the chain and adds blocks; its last, partial block is never seen again. Think times are
    log-normal, a minute in the median, sessions arrive as a Poisson process.
    """
    dice = random.Random(seed)
    fresh = iter(range(1 << 60))
    systems = [_ids(fresh, dice.lognormvariate(1.5, 0.8)) for _ in range(prompts)]
    popularity = [1 / rank for rank in range(1, prompts + 1)]
    waiting: list[tuple[float, int, list[int], int]] = []
    arrival = 0.0
    served: Trace = []
    while len(served) < requests:
        if not waiting or arrival < waiting[0][0]:
            turns = 1 + int(dice.paretovariate(1.1)) if dice.random() < 0.5 else 1
            opening = dice.choices(systems, popularity)[0] + _ids(fresh, dice.lognormvariate(1.5, 1))
            heapq.heappush(waiting, (arrival, next(fresh), opening, min(turns, 60)))
            arrival += dice.expovariate(sessions_per_s)
            continue
        at, _, chain, turns = heapq.heappop(waiting)
        served.append([*chain, next(fresh)])
        if turns > 1:
            longer = chain + _ids(fresh, dice.lognormvariate(0.7, 1))
            heapq.heappush(waiting, (at + 5 + dice.lognormvariate(4, 1), next(fresh), longer, turns - 1))
    return served


def _ids(fresh: Iterator[int], many: float) -> list[int]:
    return [next(fresh) for _ in range(1 + int(many))]


def read(path: Path) -> Trace:
    """The requests of a Mooncake trace file."""
    with path.open() as lines:
        return [json.loads(line)["hash_ids"] for line in lines]


def block_key(number: int) -> bytes:
    """A key for a block id."""
    return number.to_bytes(8, "big")
