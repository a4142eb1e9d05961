"""The pool's gRPC path beside bare handlers, and Match of 1,000 keys: `python -m bench.kv_service`.

Turn by turn on the same Redis and the same blocks; medians. BENCH_ROUNDS sets the rounds.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import grpc

from bench.kv_blocks import gigabytes_a_second, private_server
from bench.kv_ways import KIB, MODELS, Blocks, Way
from bench.processes import free_port, python_server
from stagemesh.client.kv import KvClient
from stagemesh.client.kv_blocks import KvBlocks
from stagemesh.client.kv_calls import Prefix
from stagemesh.kv.block import pack_header
from stagemesh.kv.keys import chain_links, chain_root
from stagemesh.kvrpc.service import multicallable
from stagemesh.kvrpc.wire import plan_request, value_request
from stagemesh.v1 import kvstore_pb2 as pb

GOAL = 0.85
KEYS = 1000
MATCHES = 200
CALLERS = 8
LOAD_S = 3.0


@contextmanager
def kvstore(socket: str, replicas: int = 1) -> Iterator[list[tuple[str, grpc.Channel]]]:
    """Replicas of our service: target and channel of each."""
    with ExitStack() as stack:
        servers = []
        for _ in range(replicas):
            port = free_port()
            flags = ("--port", str(port), "--http-port", "0", "--redis-url", f"unix://{socket}")
            pool = ("--redis-direct-url", f"unix://{socket}", "--kv-capacity-mib", "512", "--drain-s", "0")
            channel = stack.enter_context(python_server("-m", "services.kvstore", *flags, *pool, port=port))
            servers.append((f"127.0.0.1:{port}", channel))
        yield servers


def moves(size: int) -> tuple[dict[str, float], dict[str, float]]:
    """Get and put speeds in GB/s of blocks of `size` bytes, by way."""
    blocks = Blocks.of(size)
    with private_server() as addresses, ExitStack() as stack:
        socket, port = addresses["unix"].path, free_port()
        bare = stack.enter_context(python_server("-m", "bench.kv_bytes_server", str(port), socket, port=port))
        ((target, ours),) = stack.enter_context(kvstore(socket))
        through = KvBlocks(stack.enter_context(KvClient(target)), blocks.spec)
        direct = KvBlocks(stack.enter_context(KvClient(target, redis="auto")), blocks.spec)
        keys = "\n".join([str(blocks.spec.value_size), *blocks.keys]).encode()
        puts: dict[str, Way] = {
            "bare handler": partial(_bare_put, bare, keys, blocks),
            "our handler": partial(_raw_put, ours, through, blocks),
            "our client": partial(_put, through, blocks),
            "our client, direct": partial(_put, direct, blocks),
        }
        put_speeds = gigabytes_a_second(puts, blocks.bytes_moved)
        _put(through, blocks)
        prefix = through.match(blocks.links)
        gets: dict[str, Way] = {
            "bare handler": partial(_drain, bare.unary_stream("/bench/Get"), keys),
            "bare handler, pipelined": partial(_drain, bare.unary_stream("/bench/GetAhead"), keys),
            "our handler": partial(_drain, multicallable(ours, "Get"), prefix.request()),
            "our client": partial(_get, through, prefix, blocks.buffer),
            "our client, direct": partial(_get, direct, prefix, blocks.buffer),
        }
        return gigabytes_a_second(gets, blocks.bytes_moved), put_speeds


def match_ms(replicas: int) -> tuple[float, float]:
    """Match of KEYS keys that are all there: the median of one caller in milliseconds, and calls/s of CALLERS."""
    blocks = Blocks.of(64 * KIB)
    links = chain_links(range(16 * KEYS), chain_root(blocks.spec.fingerprint, bytes(32)))
    with private_server() as addresses, kvstore(addresses["unix"].path, replicas) as servers, ExitStack() as stack:
        target = "ipv4:" + ",".join(target for target, _ in servers)
        client = stack.enter_context(KvClient(target))
        pool = KvBlocks(client, blocks.spec)
        for start in range(0, KEYS, 100):
            after = links[start - 1].chain if start else b""
            pool.put([(link, blocks.payloads[0]) for link in links[start : start + 100]], after=after)
        taken = []
        for _ in range(MATCHES):
            started = time.perf_counter()
            if len(pool.match(links)) != KEYS:
                raise SystemExit("a block is missing")
            taken.append(time.perf_counter() - started)
        return statistics.median(taken) * 1e3, _calls_a_second(partial(pool.match, links))


def _calls_a_second(call: Callable[[], object]) -> float:
    counts = [0] * CALLERS
    deadline = time.perf_counter() + LOAD_S

    def work(index: int) -> None:
        while time.perf_counter() < deadline:
            call()
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / LOAD_S


def _drain(call: Any, request: object) -> None:
    for _ in call(request):
        pass


def _get(pool: KvBlocks, prefix: Prefix, buffer: memoryview) -> None:
    for index, outcome in pool.get(prefix, lambda index: buffer):
        if not isinstance(outcome, memoryview):
            raise SystemExit(f"block {index}: {outcome}")


def _purge(pool: KvBlocks) -> None:
    """Make room for another put: what a pool holds is never written anew."""
    pool.client.purge(tenant="default")


def _put(pool: KvBlocks, blocks: Blocks) -> None:
    _purge(pool)
    pool.put(list(zip(blocks.links, blocks.payloads, strict=True)))


def _raw_put(channel: grpc.Channel, pool: KvBlocks, blocks: Blocks) -> None:
    _purge(pool)
    chains, size = [link.chain for link in blocks.links], blocks.spec.value_size
    plan = pb.PutPlan(fingerprint=blocks.spec.fingerprint, chains=chains, sizes=[size] * len(chains))

    def requests() -> Iterator[bytes]:
        yield plan_request(plan)
        for link, payload in zip(blocks.links, blocks.payloads, strict=True):
            yield value_request(pack_header(blocks.spec, link, payload), payload)

    multicallable(channel, "Put")(requests())


def _bare_put(channel: grpc.Channel, keys: bytes, blocks: Blocks) -> None:
    def requests() -> Iterator[bytes]:
        yield keys
        for link, payload in zip(blocks.links, blocks.payloads, strict=True):
            yield b"".join((pack_header(blocks.spec, link, payload), payload))

    call: Any = channel.stream_unary("/bench/Put")
    call(requests())


def main() -> None:
    """Print a table for each size, and the goals."""
    for size in MODELS:
        gets, puts = moves(size)
        print(f"\nKV blocks of {size // KIB} KiB through gRPC, GB/s        get    put")
        for name, speed in gets.items():
            put = f"{puts[name]:6.2f}" if name in puts else "     -"
            print(f"  {name:38} {speed:6.2f} {put}")
        ratio, ahead = (gets["our handler"] / gets[name] for name in ("bare handler", "bare handler, pipelined"))
        print(f"  {'ok  ' if ratio >= GOAL else 'MISS'} get, our handler / bare handler: {ratio:.2f} (goal {GOAL:g})")
        print(f"       and / bare handler, pipelined: {ahead:.2f}")
    print(f"\nMatch of {KEYS:,} keys")
    for replicas in (1, 2):
        median, rate = match_ms(replicas)
        print(f"  {replicas} replicas: p50 {median:.2f} ms, {rate:.0f} calls/s of {CALLERS} callers")


if __name__ == "__main__":
    main()
