"""What a pool policy is measured by: LRU, and the offline optimum, both without leases or Redis.

A request finds the longest prefix of its blocks that is held, then all its blocks are put.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict

from bench.kv_traces import Trace


def lru_share(trace: Trace, capacity: int) -> float:
    """The share of blocks found by LRU, the root of a chain the most recent of it."""
    held: OrderedDict[int, None] = OrderedDict()
    found = wanted = 0
    for chain in trace:
        wanted += len(chain)
        found += _prefix(chain, held)
        for block in reversed(chain):
            held[block] = None
            held.move_to_end(block)
        while len(held) > capacity:
            held.popitem(last=False)
    return found / wanted


def optimal_share(trace: Trace, capacity: int) -> float:
    """The share found by Belady's rule with bypass: let go what is needed last, the new block itself included."""
    next_uses = _next_uses(trace)
    held: dict[int, int] = {}  # block -> when it is needed next
    latest: list[tuple[int, int]] = []  # (-next use, block), entries that no longer hold are skipped
    found = wanted = 0
    for number, chain in enumerate(trace):
        wanted += len(chain)
        found += _prefix(chain, held)
        for depth, block in enumerate(chain):
            held[block] = next_uses[number][depth]
            heapq.heappush(latest, (-held[block], block))
        while len(held) > capacity:
            use, block = heapq.heappop(latest)
            if held.get(block) == -use:
                del held[block]
    return found / wanted


def _prefix(chain: list[int], held: OrderedDict[int, None] | dict[int, int]) -> int:
    return next((depth for depth, block in enumerate(chain) if block not in held), len(chain))


def _next_uses(trace: Trace) -> list[list[int]]:
    """For each block of each request when it is used next; of equal times the deeper block counts as later."""
    longest = max(map(len, trace))
    seen: dict[int, int] = {}
    answers = []
    for number in reversed(range(len(trace))):
        never = len(trace)
        answers.append([seen.get(block, never) * longest + depth for depth, block in enumerate(trace[number])])
        for block in trace[number]:
            seen[block] = number
    answers.reverse()
    return answers
