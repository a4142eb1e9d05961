"""The client of the KV-cache pool for ordinary code; safe to share between threads. Blocks move by `KvBlocks`."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import grpc

from stagemesh.client import kv_calls
from stagemesh.client.calls import Call
from stagemesh.client.kv_calls import DEFAULT_KV_TARGET, Place
from stagemesh.client.kv_guard import guarded
from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.breaker import Breaker
from stagemesh.kvdata.connection import Limits
from stagemesh.kvdata.path import DataPath
from stagemesh.kvrpc.service import METHODS, multicallable
from stagemesh.rpc.channel import sync_channel
from stagemesh.v1 import kvstore_pb2 as pb

T = TypeVar("T")

DEADLINE_S = 5.0
MOVE_DEADLINE_S = 60.0
AUTO = "auto"
REPORT_BYTES = 256 << 20
"""Bytes read from Redis itself until the service is told of them, for its metrics."""


class KvClient:
    """Talks to kvstore replicas at `target`, and where it is trusted to, moves values from and to Redis itself.

    `redis` is "" for never, "auto" for wherever the service says the values lie, or the URL of that Redis with the
    user and password of this client. Methods raise stagemesh errors: RemoteFailure with what a server answered,
    Unavailable where none could be reached, at once while the circuit breaker is open. `deadline_s` bounds each call
    in seconds, `move_deadline_s` one that carries blocks.
    """

    def __init__(
        self,
        target: str = DEFAULT_KV_TARGET,
        *,
        redis: str = "",
        deadline_s: float = DEADLINE_S,
        move_deadline_s: float = MOVE_DEADLINE_S,
        max_message_mib: int = 256,
        limits: Limits | None = None,
    ) -> None:
        """Raises ConfigError for a URL that is none."""
        self.target = target
        self.move_deadline_s = move_deadline_s
        self.deadline_s = deadline_s
        self._address = RedisAddress.parse(redis) if redis not in ("", AUTO) else None
        self.is_direct = bool(redis)
        self._limits = limits
        self._channel = sync_channel(target, max_message_mib << 20)
        self._methods = {name: multicallable(self._channel, name) for name in METHODS}
        self._paths: dict[Place, DataPath] = {}
        self._lock = threading.Lock()
        self._unreported = 0
        self.service_breaker, self.direct_breaker = Breaker(), Breaker()

    def __enter__(self) -> KvClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all connections up; calls under way end as cancelled."""
        self._channel.close()
        with self._lock:
            for path in self._paths.values():
                path.close()

    def renew(self, lease: str, lease_ms: int) -> None:
        """Let a lease live on for that time from now; RemoteFailure, reason LEASE_LOST, where it has ended."""
        self.run(kv_calls.renew(lease, lease_ms))

    def release(self, lease: str) -> bool:
        """End a lease; False where it had ended before."""
        return self.run(kv_calls.release(lease))

    def pin(self, fingerprint: bytes, chain: bytes, pinned: bool = True) -> bool:
        """Keep a block and its whole prefix until it is unpinned; False where there is no such block."""
        return self.run(kv_calls.pin(fingerprint, chain, pinned))

    def stats(self) -> pb.StatsResponse:
        """What the whole pool holds and has counted."""
        return self.run(kv_calls.stats())

    def purge(self, *, tenant: str = "", model: str = "") -> int:
        """Remove all blocks of a tenant, a model, or a tenant's of a model; how many."""
        return self.run(kv_calls.purge(tenant, model, self.move_deadline_s))

    def listing(self, *, tenant: str = "", model: str = "", limit: int = 0) -> Iterator[pb.BlockInfo]:
        """The blocks of the pool, in no order; `limit` 0 for all."""
        request = pb.ListRequest(tenant=tenant, model=model, limit=limit)
        for answer in self.stream(Call("List", request, bytes)):
            yield from answer.blocks

    def run(self, call: Call[T]) -> T:
        """Make a call whose answer is one message."""
        timeout = self.deadline_s if call.deadline_s is None else call.deadline_s
        with guarded(self.service_breaker, self.target):
            try:
                answer = self._methods[call.rpc](call.request, timeout=timeout)
            except grpc.RpcError as error:
                raise call.failed(error, self.target) from error
        return call.parse(answer)

    def upload(self, call: Call[T]) -> T:
        """Make a call whose request is a stream of messages and whose answer is one message."""
        with guarded(self.service_breaker, self.target):
            try:
                answer = self._methods[call.rpc](call.request, timeout=self.move_deadline_s)
            except grpc.RpcError as error:
                raise call.failed(error, self.target) from error
        return call.parse(answer)

    def stream(self, call: Call[Any]) -> Generator[Any, None, None]:
        """Make a call that is answered by a stream. Close the iterator to end early."""
        with guarded(self.service_breaker, self.target):
            answers = self._methods[call.rpc](call.request, timeout=self.move_deadline_s)
            try:
                yield from answers
            except grpc.RpcError as error:
                raise call.failed(error, self.target) from error
            finally:
                answers.cancel()

    def unreported(self, bytes_read: int, *, flush: bool) -> int:
        """Add bytes read from Redis itself; how many to tell the service of now, none most of the time."""
        with self._lock:
            self._unreported += bytes_read
            told = self._unreported if flush or self._unreported >= REPORT_BYTES else 0
            self._unreported -= told
        return told

    def path(self, place: Place) -> DataPath | None:
        """The way to the values of that place, None for through the service. Raises ConfigError for its URL."""
        if not self.is_direct or not place.namespace or not (self._address or place.url):
            return None
        with self._lock:
            if place not in self._paths:
                address = self._address or RedisAddress.parse(place.url)
                make = DataPath.to_cluster([address], self._limits) if place.cluster else None
                self._paths[place] = make or DataPath.to_server(address, self._limits)
            return self._paths[place]
