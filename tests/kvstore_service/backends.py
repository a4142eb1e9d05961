"""Where the tests' pools live: real Redis servers by transport, and real kvstore processes in front of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import redis

from stagemesh.client.kv import KvClient
from stagemesh.client.kv_blocks import KvBlocks
from stagemesh.kv.block import BlockSpec
from stagemesh.kv.keys import Identity, Link, chain_links, chain_root, tenant_salt
from tests.mesh.processes import ServiceProcess, running
from tests.support.redis_server import RedisServer, Tls, redis_cluster, redis_server

SECRET = b"a secret of the tests"
PASSWORD = "p@ss word/%"
# What docs/kv.md tells operators to allow, and no more.
ACL = (
    *("--user", "kv", "on", f">{PASSWORD}", "~pool/*", "~{pool}:*", "-@all"),
    *("+@read", "+@write", "+@scripting", "+@connection", "+info", "+time"),
)
IDENTITY = Identity(weights=bytes(32), dtype="FP32", layers=2, kv_heads=2, head_dim=32, rope={"theta": 10000.0})
SPEC = BlockSpec.of(IDENTITY)
MIB = 1 << 20


@dataclass
class Backend:
    """Redis servers, and how the service and a client that may go there are told of them."""

    servers: Sequence[RedisServer]
    url: str
    cluster: bool = False
    clients: list[redis.Redis] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clients = [server.client() for server in self.servers]

    @property
    def flags(self) -> dict[str, object]:
        """Settings of a kvstore service."""
        bare = self.url.replace("kv:p%40ss%20word%2F%25@", "")
        return {"redis_url": self.url, "redis_cluster": self.cluster, "redis_direct_url": bare, "kv_namespace": "pool"}

    def flush(self) -> None:
        """Empty it."""
        for client in self.clients:
            client.flushall()

    def values(self) -> dict[bytes, redis.Redis]:
        """The keys of all values, and who has them."""
        return {key: client for client in self.clients for key in client.scan_iter(match="pool/*")}

    def value_bytes(self) -> int:
        """Bytes of all values."""
        return sum(client.strlen(key) for key, client in self.values().items())


@contextmanager
def backend(kind: str, folder: Path) -> Iterator[Backend]:
    """A backend of kind `unix`, `tls` (with an ACL user) or `cluster` (of three masters)."""
    if kind == "cluster":
        with redis_cluster() as nodes:
            yield Backend(nodes, nodes[1].url, cluster=True)
    elif kind == "tls":
        with redis_server(*ACL, tls=Tls(folder)) as server:
            yield Backend([server], server.url.replace("://", "://kv:p%40ss%20word%2F%25@"))
    else:
        with redis_server() as server:
            yield Backend([server], server.unix_url)


@contextmanager
def kvstore(backend: Backend, replicas: int = 1, **settings: object) -> Iterator[list[ServiceProcess]]:
    """Ready replicas of the service; ended with the block."""
    flags = {"kv_capacity_mib": 8, "drain_s": 0.1, **backend.flags, **settings}
    with ExitStack() as stack:
        processes = [ServiceProcess("kvstore", **flags) for _ in range(replicas)]
        for process in processes:
            stack.enter_context(running(process))
        yield processes


def target(processes: Sequence[ServiceProcess]) -> str:
    """All of them as one gRPC target."""
    return "ipv4:" + ",".join(process.target for process in processes)


@dataclass(frozen=True)
class Chain:
    """A chain of blocks of random payloads."""

    links: Sequence[Link]
    payloads: Sequence[bytes]

    @property
    def blocks(self) -> list[tuple[Link, bytes]]:
        """As `put` takes them."""
        return list(zip(self.links, self.payloads, strict=True))


def chain(length: int, seed: int = 0, tenant: str = "default", spec: BlockSpec = SPEC) -> Chain:
    """A chain that no other seed or tenant shares a block with."""
    root = chain_root(spec.fingerprint, tenant_salt(SECRET, tenant))
    links = chain_links([seed, *range(1, 16 * length)], root)
    random = np.random.default_rng(seed)
    return Chain(links, [random.bytes(spec.payload_size) for _ in links])


def buffers(count: int, spec: BlockSpec = SPEC) -> Callable[[int], memoryview]:
    """A target with a buffer for each block."""
    memory = [memoryview(bytearray(spec.value_size)) for _ in range(count)]
    return lambda index: memory[index]


def read(blocks: KvBlocks, links: Sequence[Link]) -> list[bytes | str]:
    """What a reader gets of a chain: payloads, or the reasons of misses."""
    prefix = blocks.match(links)
    found: dict[int, bytes | str] = {}
    for index, outcome in blocks.get(prefix, buffers(len(prefix))):
        found[index] = bytes(outcome) if isinstance(outcome, memoryview) else outcome.reason
    return [found[index] for index in range(len(prefix))]


def wait_until(fact: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Return once `fact` is true."""
    deadline = time.monotonic() + timeout_s
    while not fact():
        assert time.monotonic() < deadline, f"still not after {timeout_s} s"
        time.sleep(0.02)


def settled(client: KvClient, backend: Backend) -> bool:
    """Whether the pool counts exactly the bytes that Redis holds, with nothing being written or about to go."""
    stats = client.stats()
    return stats.bytes == backend.value_bytes() and not stats.pending_blocks and not stats.garbage
