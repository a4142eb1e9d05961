"""What the service counts: of its own calls, and of the whole pool as Redis has it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.kvstore.index import IndexStats

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MAX_TENANTS = 256
"""Tenants with a figure of their own; the bytes of the others count as `other`."""


class KvMetrics:
    """Counters of this replica. `pool` is what was last seen of the whole pool, the same at every replica."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.hits = Counter("stagemesh_kv_hit_blocks", "Blocks that a match found", registry=registry)
        self._misses = Counter(
            "stagemesh_kv_miss_blocks",
            "Blocks that were not found, or not as they should be",
            ["reason"],
            registry=registry,
        )
        self._bytes = Counter("stagemesh_kv_value_bytes", "Bytes of values", ["direction", "path"], registry=registry)
        self._aborts = Counter("stagemesh_kv_put_aborts", "Puts given up", ["reason"], registry=registry)
        self._seconds = Histogram(
            "stagemesh_kv_seconds", "Time of a call", ["method"], buckets=BUCKETS_S, registry=registry
        )
        self._up = Gauge("stagemesh_kv_redis_up", "Whether Redis can be used", registry=registry)
        self.pool: IndexStats | None = None
        registry.register(_PoolCollector(self))

    def missed(self, reason: str, blocks: int = 1) -> None:
        """So many blocks were missed; `reason` is a word of docs/kv.md."""
        if blocks:
            self._misses.labels(reason).inc(blocks)

    def moved(self, direction: str, path: str, size: int) -> None:
        """Bytes of values went `in` or `out`, through the `service` or `direct`."""
        if size:
            self._bytes.labels(direction, path).inc(size)

    def aborted(self, reason: str) -> None:
        """A put was given up; `reason` is that of its error."""
        self._aborts.labels(reason).inc()

    def redis_up(self, up: bool) -> None:
        """Whether Redis can be used."""
        self._up.set(up)

    @contextmanager
    def timed(self, method: str) -> Iterator[None]:
        """Observe how long the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds.labels(method).observe(time.perf_counter() - started)


class _PoolCollector(Collector):
    def __init__(self, metrics: KvMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        stats = self._metrics.pool
        if stats is None:
            return
        for name in ("bytes", "blocks", "pending_bytes", "pending"):
            yield _gauge(name, f"The pool's {name.replace('_', ' ')}", stats.counters.get(name, 0))
        yield _gauge("leases", "Leases held", stats.leases)
        yield _gauge("garbage", "Values about to be deleted", stats.garbage)
        yield _counted(stats, "removed", "Blocks removed from the pool", "cause")
        yield _counted(stats, "put", "Blocks of puts", "outcome")
        yield _tenants(stats)


def _gauge(name: str, documentation: str, value: int) -> Metric:
    return GaugeMetricFamily(f"stagemesh_kv_pool_{name}", documentation, value)


def _counted(stats: IndexStats, kind: str, documentation: str, label: str) -> Metric:
    family = CounterMetricFamily(f"stagemesh_kv_pool_{kind}_blocks", documentation, labels=[label])
    for name, value in stats.of_kind(kind).items():
        family.add_metric([name], value)
    return family


def _tenants(stats: IndexStats) -> Metric:
    family = GaugeMetricFamily("stagemesh_kv_pool_tenant_bytes", "Bytes by tenant", labels=["tenant"])
    ordered = sorted(stats.tenants.items(), key=lambda item: -item[1])
    for tenant, held in ordered[:MAX_TENANTS]:
        family.add_metric([tenant], held)
    if others := sum(held for _, held in ordered[MAX_TENANTS:]):
        family.add_metric(["other"], others)
    return family
