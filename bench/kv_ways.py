"""The ways to move the same KV blocks through Redis: our direct path, redis-py, and a plain socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import redis

from stagemesh.kv.block import HEADER_BYTES, BlockSpec, pack_header
from stagemesh.kv.keys import BlockKey, Identity, Link, chain_links, chain_root
from stagemesh.kvdata.arena import Arena
from stagemesh.kvdata.blocks import get_blocks, put_blocks
from stagemesh.kvdata.path import DataPath
from stagemesh.kvdata.resp import get_request, set_request

KIB = 1024
# Layers, kv heads and head dim whose float32 blocks of 16 tokens have that many bytes.
MODELS = {
    64 * KIB: (8, 1, 64),
    360 * KIB: (15, 3, 64),
    720 * KIB: (30, 3, 64),
    1024 * KIB: (32, 4, 64),
    4096 * KIB: (32, 8, 128),
}
ROUND_BYTES = 32 << 20
LEAST_BLOCKS, MOST_BLOCKS = 8, 256
BATCH = 8
DEPTHS = (1, 4)

Way = Callable[[], object]
Ways = dict[str, Way]


@dataclass(frozen=True)
class Blocks:
    """The blocks that a round moves, all of one size: their links, keys, payloads, and the buffer they are read to."""

    spec: BlockSpec
    links: list[Link]
    keys: list[str]
    payloads: list[memoryview]
    buffer: memoryview

    @classmethod
    def of(cls, size: int) -> Blocks:
        """Blocks of random payloads of `size` bytes."""
        layers, kv_heads, head_dim = MODELS[size]
        identity = Identity(
            weights=bytes(32), dtype="FP32", layers=layers, kv_heads=kv_heads, head_dim=head_dim, rope={"theta": 1e4}
        )
        spec, count = BlockSpec.of(identity), max(LEAST_BLOCKS, min(MOST_BLOCKS, ROUND_BYTES // size))
        links = chain_links(range(16 * count), chain_root(spec.fingerprint, bytes(32)))
        return cls(
            spec,
            links,
            [str(BlockKey("bench", spec.fingerprint, link.chain)) for link in links],
            [memoryview(os.urandom(size)) for _ in links],
            Arena(spec.value_size, 1).take().view,
        )

    @cached_property
    def values(self) -> list[bytes]:
        """Whole values, as those need them who can't send header and payload side by side."""
        pairs = zip(self.links, self.payloads, strict=True)
        return [pack_header(self.spec, link, payload) + payload for link, payload in pairs]

    @property
    def bytes_moved(self) -> int:
        """The bytes of one round."""
        return (HEADER_BYTES + self.spec.payload_size) * len(self.links)


def direct_get(path: DataPath, blocks: Blocks) -> None:
    """All blocks by our path, each verified where it was read to, which is free again for the next one."""
    wanted = list(zip(blocks.keys, blocks.links, strict=True))
    for index, outcome in get_blocks(path, blocks.spec, wanted, lambda index: blocks.buffer):
        if not isinstance(outcome, memoryview):
            raise SystemExit(f"block {index}: {outcome}")


def direct_put(path: DataPath, blocks: Blocks) -> None:
    """All blocks by our path, each sealed before it is sent."""
    if any(put_blocks(path, blocks.spec, list(zip(blocks.keys, blocks.links, blocks.payloads, strict=True)))):
        raise SystemExit("a put failed")


def plain_ways(plain: socket.socket, blocks: Blocks) -> tuple[Ways, Ways]:
    """A socket that reads replies into one buffer, and sends values; it looks at nothing."""
    size = blocks.spec.value_size
    buffer = memoryview(bytearray(max(DEPTHS) * (size + 32)))
    gets: Ways = {f"plain socket, depth {depth}": partial(_plain_get, plain, blocks, depth, buffer) for depth in DEPTHS}
    puts: Ways = {f"plain socket, depth {depth}": partial(_plain_put, plain, blocks, depth) for depth in DEPTHS}
    return gets, puts


def redis_py_ways(client: redis.Redis, blocks: Blocks) -> tuple[Ways, Ways]:
    """redis-py with hiredis, as it comes."""
    keys, values = blocks.keys, blocks.values
    groups = [range(start, min(start + BATCH, len(keys))) for start in range(0, len(keys), BATCH)]

    def pipelined(ask: Callable[[Any, int], object]) -> None:
        for group in groups:
            pipe = client.pipeline(transaction=False)
            for index in group:
                ask(pipe, index)
            pipe.execute()

    gets: Ways = {
        "redis-py": lambda: [client.get(key) for key in keys],
        "redis-py mget 8": lambda: [client.mget([keys[index] for index in group]) for group in groups],
        "redis-py pipeline 8": lambda: pipelined(lambda pipe, index: pipe.get(keys[index])),
    }
    puts: Ways = {
        "redis-py": lambda: [client.set(*item) for item in zip(keys, values, strict=True)],
        "redis-py pipeline 8": lambda: pipelined(lambda pipe, index: pipe.set(keys[index], values[index])),
    }
    return gets, puts


def _plain_get(plain: socket.socket, blocks: Blocks, depth: int, buffer: memoryview) -> None:
    size = blocks.spec.value_size
    reply = len(b"$%d\r\n" % size) + size + 2
    requests = [get_request(key.encode()) for key in blocks.keys]
    for start in range(0, len(requests), depth):
        some = requests[start : start + depth]
        plain.sendall(b"".join(some))
        plain.recv_into(buffer[: reply * len(some)], 0, socket.MSG_WAITALL)


def _plain_put(plain: socket.socket, blocks: Blocks, depth: int) -> None:
    for start in range(0, len(blocks.keys), depth):
        some = range(start, min(start + depth, len(blocks.keys)))
        for index in some:
            head, tail = set_request(blocks.keys[index].encode(), blocks.spec.value_size)
            plain.sendmsg((head, blocks.values[index], tail))
        plain.recv(len(b"+OK\r\n") * len(some), socket.MSG_WAITALL)
