"""The eviction policy in plain Python: the oracle of `services/kvstore/lua/policy.lua`, which has the reasoning."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from dataclasses import dataclass

CLASSES, BINS, COHORT = 6, 40, 1024
PRIOR_LIVES, PRIOR_CHANCE = 32, 0.125
RERANK_EVERY = 2048
GHOSTS_PER_BLOCK, TRIM = 8, 16


@dataclass(slots=True, eq=False)
class Block:
    """A block as the pool remembers it."""

    key: bytes
    size: int
    token: str
    tenant: str
    model: str
    parent: bytes
    parent_token: str
    touched: int
    hits: int
    pinned: bool
    last: int = 0
    children: int = 0
    holds: int = 0
    committed: bool = False
    grown: bool = False
    ranked: int | None = None

    @property
    def use_class(self) -> int:
        """0 to 4: used so often; 5: never used, never followed by another."""
        return min(self.hits, 4) if self.hits or self.grown else 5


def edge(number: int) -> float:
    """The youngest age of a bin."""
    return float(2 ** (number // 2) * (1.5 if number % 2 else 1) - 1)


EDGES = [edge(number) for number in range(BINS + 1)]


def bin_of(age: float) -> int:
    """The bin of an age in uses."""
    return min(bisect_right(EDGES, age) - 1, BINS - 1) if age != 0 else 0


def _discard(ordered: list[tuple[int, bytes]], item: tuple[int, bytes]) -> None:
    index = bisect_left(ordered, item)
    assert ordered[index] == item
    del ordered[index]


class PolicyModel:
    """Statistics, ghosts, leaves and the order in which they go."""

    def __init__(self, ghosts: int) -> None:
        self.clock = 0
        self.most_ghosts = ghosts
        self.ghosts: dict[bytes, tuple[int, int, int]] = {}  # class, last, hits
        self.ghost_order: list[tuple[int, bytes]] = []
        self.learned: Counter[tuple[str, int, int]] = Counter()
        self.leaves: list[list[tuple[int, bytes]]] = [[] for _ in range(CLASSES)]
        self.order: list[tuple[int, int]] | None = None
        self.next_rank = self.next_halving = 0
        self._place: dict[tuple[int, int], int] = {}
        self._cursor: int | None = None

    def begin_call(self) -> None:
        """Each script starts with an order not looked at yet."""
        self._cursor = None

    def begin_life(self, use_class: int, last: int) -> None:
        self.learned["alive", use_class, last // COHORT] += 1

    def end_life(self, use_class: int, last: int) -> None:
        self.learned["alive", use_class, last // COHORT] -= 1

    def reused(self, use_class: int, last: int) -> None:
        self.end_life(use_class, last)
        self.learned["reused", use_class, bin_of(self.clock - last)] += 1

    def remember(self, block: Block, blocks: int) -> None:
        """An evicted block becomes a ghost; the oldest of too many are lost."""
        self.ghosts[block.key] = (block.use_class, block.last, block.hits)
        insort(self.ghost_order, (block.last, block.key))
        excess = len(self.ghosts) - min(self.most_ghosts, GHOSTS_PER_BLOCK * blocks)
        for _ in range(min(excess, TRIM)):
            last, key = self.ghost_order.pop(0)
            use_class, _, _ = self.ghosts.pop(key)
            self.end_life(use_class, last)
            self.learned["lost", use_class, bin_of(self.clock - last)] += 1

    def recall(self, key: bytes) -> int:
        """The use count of a block put again."""
        if key not in self.ghosts:
            return 0
        use_class, last, hits = self.ghosts.pop(key)
        _discard(self.ghost_order, (last, key))
        self.reused(use_class, last)
        return hits + 1

    def add_leaf(self, block: Block) -> None:
        block.ranked = block.use_class
        insort(self.leaves[block.ranked], (block.last, block.key))
        if self._cursor is not None:
            self._cursor = min(self._cursor, self._place[block.ranked, bin_of(self.clock - block.last)])

    def drop_leaf(self, block: Block, last: int) -> None:
        if block.ranked is not None:
            _discard(self.leaves[block.ranked], (last, block.key))
            block.ranked = None

    def victim(self, blocks: int) -> bytes | None:
        """The key of the leaf to evict; `blocks` is how many the pool holds."""
        if self._cursor is None:
            if self.order is None or self.clock >= self.next_rank:
                self._rerank(blocks)
            self._cursor = 0
        assert self.order is not None
        while self._cursor < len(self.order):
            use_class, number = self.order[self._cursor]
            leaves = self.leaves[use_class]
            oldest = -1.0 if number == BINS - 1 else self.clock - EDGES[number + 1]
            index = bisect_right(leaves, (oldest, b"\xff" * 65))
            if index < len(leaves) and leaves[index][0] <= self.clock - EDGES[number]:
                return leaves[index][1]
            self._cursor += 1
        return None

    def _rerank(self, blocks: int) -> None:
        seen = self._statistics()
        worth = {}
        for use_class in range(CLASSES):
            chance = _chances(seen, use_class)
            for number in range(BINS):
                worth[use_class, number] = _gittins(chance, number)
        self.order = sorted(worth, key=lambda place: (worth[place], -place[1], place[0]))
        self._place = {place: index for index, place in enumerate(self.order)}
        self.next_rank = self.clock + RERANK_EVERY
        if self.clock >= self.next_halving:
            if self.next_halving > 0:
                for place, amount in seen.items():
                    if place[0] != "alive":
                        self.learned[place] -= math.ceil(amount / 2)
            self.next_halving = self.clock + 2 * (blocks + len(self.ghosts))

    def _statistics(self) -> Counter[tuple[str, int, int]]:
        seen: Counter[tuple[str, int, int]] = Counter()
        for (kind, use_class, number), amount in self.learned.items():
            where = bin_of(max(0, self.clock - (number + 0.5) * COHORT)) if kind == "alive" else number
            seen[kind, use_class, where] += amount
        return seen


def _chances(seen: Counter[tuple[str, int, int]], use_class: int) -> list[float]:
    reach = [0] * (BINS + 1)
    for number in reversed(range(BINS)):
        ends = sum(seen[kind, use_class, number] for kind in ("reused", "lost", "alive"))
        reach[number] = reach[number + 1] + ends
    chance, before = [], PRIOR_CHANCE
    for number in range(BINS):
        exposed = (reach[number] + reach[number + 1]) / 2
        used = seen["reused", use_class, number]
        before = min(1.0, (used + PRIOR_LIVES * before) / (exposed + PRIOR_LIVES))
        chance.append(before)
    return chance


def _gittins(chance: list[float], first: int) -> float:
    best, hits, time, survive = 0.0, 0.0, 0.0, 1.0
    for number in range(first, BINS):
        hits += survive * chance[number]
        time += survive * (1 - chance[number] / 2) * (EDGES[number + 1] - EDGES[number])
        survive *= 1 - chance[number]
        best = max(best, hits / time)
    return best
