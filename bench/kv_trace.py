"""`python -m bench.kv_trace [TRACE]`: the share of blocks found in the pool, LRU, ours and the offline optimum.

Ours is the real index: its scripts on a private redis-server, one block counted as one byte, each request matched
under a lease, put, committed and released. TRACE is a file of the Mooncake traces (JSON lines with `hash_ids`),
by default `$STAGEMESH_KV_TRACE`; a generated trace follows, or stands alone where there is no file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

from redis.asyncio import Redis

from bench.kv_blocks import private_server
from bench.kv_reference import lru_share, optimal_share
from bench.kv_traces import Trace, block_key, generate, read
from services.kvstore.index import Index
from services.kvstore.limits import Limits

CAPACITIES = (1_000, 3_000, 10_000, 30_000, 50_000)
# (label, high watermark, step): the pool filled to the brim, as LRU and the optimum are, and as it is by default
WATERMARKS = (("ours", 1.0, 0.0), ("ours, by default", Limits.high, Limits.step))
LEASE_MS = 60_000
COLLECT_EVERY = 200


async def replay(redis: Redis, trace: Trace, limits: Limits) -> float:
    """The share of blocks found by the index."""
    await redis.flushall()
    index = Index(redis, "trace", limits)
    for number, chain in enumerate(trace):
        await _request(index, [block_key(block) for block in chain])
        if number % COLLECT_EVERY == 0:
            await _collect(index)
    counters = (await index.stats()).counters
    return counters["found"] / counters["wanted"]


async def _request(index: Index, keys: list[bytes]) -> None:
    match = await index.match(keys, LEASE_MS)
    here = len(match.blocks)
    if here < len(keys):
        parent = keys[here - 1] if here else b""
        puts = [(key, 1) for key in keys[here:]]
        reserved = await index.reserve(parent, puts, tenant="trace", model="trace", lease=match.lease)
        await index.commit([each for each in reserved if each.outcome == "reserved"])
    await index.release(match.lease)


async def _collect(index: Index) -> None:
    while garbage := await index.garbage(5_000):
        await index.garbage(1, garbage)


async def report(name: str, trace: Trace, socket: str) -> None:
    """Print the table of one trace."""
    blocks, unique = sum(map(len, trace)), len({block for chain in trace for block in chain})
    print(f"\n{name}: {len(trace):,} requests, {blocks:,} blocks, {unique:,} of them different; found, % of blocks")
    _row("capacity, blocks", [f"{capacity:,}" for capacity in CAPACITIES])
    _row("LRU", [f"{lru_share(trace, capacity):.2%}" for capacity in CAPACITIES])
    redis = Redis(unix_socket_path=socket)
    for label, high, step in WATERMARKS:
        started, shares = time.perf_counter(), []
        for capacity in CAPACITIES:
            shares.append(await replay(redis, trace, Limits(capacity=capacity, high=high, step=step)))
        per_request = (time.perf_counter() - started) / len(CAPACITIES) / len(trace)
        _row(label, [f"{share:.2%}" for share in shares] + [f"{per_request * 1e3:.2f} ms a request"])
    await redis.aclose()
    _row("offline optimum", [f"{optimal_share(trace, capacity):.2%}" for capacity in CAPACITIES])


def _row(label: str, cells: Sequence[str]) -> None:
    print(f"{label:<18}" + "".join(f"{cell:>9}" for cell in cells[: len(CAPACITIES)]), *cells[len(CAPACITIES) :])


def main() -> None:
    """Print one table for each trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", nargs="?", type=Path, default=os.environ.get("STAGEMESH_KV_TRACE"))
    path = parser.parse_args().trace
    with private_server() as addresses:
        socket = addresses["unix"].path
        if path and Path(path).is_file():
            asyncio.run(report(Path(path).name, read(Path(path)), socket))
        asyncio.run(report("generated chat traffic", generate(), socket))


if __name__ == "__main__":
    main()
