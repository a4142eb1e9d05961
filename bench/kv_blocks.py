"""KV blocks through Redis: our direct path (verified) beside redis-py and a plain socket, in one run.

In each round every way moves the same blocks, one way after the other; a figure is the median of the rounds. The
warm-up rounds touch all memory, and a put overwrites keys that exist. BENCH_ROUNDS sets the rounds.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import redis

from bench.kv_ways import KIB, MODELS, Blocks, Ways, direct_get, direct_put, plain_ways, redis_py_ways
from bench.processes import free_port
from stagemesh.cli.local.redis_server import SOCKET, find_redis_server, private_redis
from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.path import DataPath

MEMORY_BYTES = 1 << 30
WARM_UP = 2
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))
START_S = 10.0
TRANSPORTS = ("tcp", "unix")
# What Mooncake Store's TCP transport reached on a guest of two cores, get and put in GB/s.
MOONCAKE = {
    64 * KIB: (0.62, 0.43),
    360 * KIB: (1.16, 0.97),
    1024 * KIB: (1.06, 1.04),
    4096 * KIB: (1.65, 1.60),
}

Speeds = dict[str, float]


@contextmanager
def private_server() -> Iterator[dict[str, RedisAddress]]:
    """A redis-server of our own while the block lasts: its address by transport."""
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        port, path = free_port(), Path(folder) / SOCKET
        command = [*private_redis(find_redis_server(), Path(folder), MEMORY_BYTES), "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + START_S
            while not path.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("redis-server did not start")
                time.sleep(0.02)
            yield {"tcp": RedisAddress(port=port), "unix": RedisAddress(path=str(path))}
        finally:
            process.kill()
            process.wait()


def plain_socket(address: RedisAddress) -> socket.socket:
    """A connected socket that waits as long as it takes."""
    if not address.path:
        plain = socket.create_connection((address.host, address.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    plain.connect(address.path)
    return plain


def all_ways(blocks: Blocks, addresses: dict[str, RedisAddress], stack: ExitStack) -> tuple[Ways, Ways]:
    """Every way to get and to put, by its name and transport; `stack` closes their connections."""
    gets: Ways = {}
    puts: Ways = {}
    for transport, address in addresses.items():
        path = stack.enter_context(DataPath.to_server(address))
        plain = stack.enter_context(plain_socket(address))
        client = stack.enter_context(redis.Redis(port=address.port, unix_socket_path=address.path or None))
        gets[f"direct {transport}"] = partial(direct_get, path, blocks)
        puts[f"direct {transport}"] = partial(direct_put, path, blocks)
        for get_ways, put_ways in (plain_ways(plain, blocks), redis_py_ways(client, blocks)):
            gets |= {f"{name} {transport}": way for name, way in get_ways.items()}
            puts |= {f"{name} {transport}": way for name, way in put_ways.items()}
    return gets, puts


def gigabytes_a_second(ways: Ways, size: int) -> Speeds:
    """The median speed of each way that moves `size` bytes a round."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(WARM_UP + ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if index >= WARM_UP:
                taken[name].append(time.perf_counter() - started)
    return {name: size / statistics.median(seconds) / 1e9 for name, seconds in taken.items()}


def measure(size: int) -> tuple[Speeds, Speeds]:
    """Get and put speeds of blocks of `size` bytes, on a server of their own."""
    with ExitStack() as stack:
        addresses = stack.enter_context(private_server())
        blocks = Blocks.of(size)
        gets, puts = all_ways(blocks, addresses, stack)
        put_speeds = gigabytes_a_second(puts, blocks.bytes_moved)
        return gigabytes_a_second(gets, blocks.bytes_moved), put_speeds


def best(speeds: Speeds, prefix: str, transport: str) -> float:
    """The fastest of the ways whose name starts with `prefix`."""
    return max(speed for name, speed in speeds.items() if name.startswith(prefix) and name.endswith(f" {transport}"))


def goals(size: int, gets: Speeds, puts: Speeds) -> Iterator[str]:
    """Each goal with the ratio that was reached."""
    for transport in TRANSPORTS:
        direct = gets[f"direct {transport}"]
        yield _goal(f"get {transport} / better plain socket", direct / best(gets, "plain", transport), 0.75)
        put = puts[f"direct {transport}"]
        yield _goal(f"put {transport} / redis-py set", put / puts[f"redis-py {transport}"], 3.0)
    if size <= 1024 * KIB:
        yield _goal("get unix / redis-py's best tcp", gets["direct unix"] / best(gets, "redis-py", "tcp"), 1.5)
    for index, (verb, speeds) in enumerate((("get", gets), ("put", puts))):
        if size in MOONCAKE:
            yield _goal(f"{verb} tcp / Mooncake Store tcp", speeds["direct tcp"] / MOONCAKE[size][index], 1.0)


def _goal(name: str, ratio: float, wanted: float) -> str:
    return f"  {'ok  ' if ratio >= wanted else 'MISS'} {name}: {ratio:.2f} (goal {wanted:g})"


def main() -> None:
    """Print a table and the goals for each size."""
    for size in MODELS:
        gets, puts = measure(size)
        print(f"\nKV blocks of {size // KIB} KiB, GB/s        get    put")
        for name, speed in gets.items():
            put = f"{puts[name]:6.2f}" if name in puts else "     -"
            print(f"  {name:32} {speed:6.2f} {put}")
        print("\n".join(goals(size, gets, puts)))


if __name__ == "__main__":
    main()
