"""The Prometheus metrics of one server, in a registry of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

QUEUE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COMPUTE_BUCKETS_S = (0.0001, 0.00025, *QUEUE_BUCKETS_S)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MAX_MODELS = 256
"""Model names with a label of their own; names beyond count as `other`, so callers can't grow the registry."""


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """The histograms of one model: observe seconds in the queue, seconds of compute, items of a batch."""

    queue_seconds: Histogram
    compute_seconds: Histogram
    batch_size: Histogram


class Metrics:
    """Counters, gauge and histograms of one stage; labels are looked up once and kept."""

    def __init__(self, stage: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._stage = stage
        self._names: set[str] = set()
        self._requests = self._counter("stagemesh_requests", "Requests answered", "model", "code")
        self._failures = self._counter("stagemesh_failures", "Requests that failed", "model", "reason")
        self._queue = self._histogram("stagemesh_queue_seconds", "Time in the batch queue", QUEUE_BUCKETS_S, "model")
        self._compute = self._histogram(
            "stagemesh_compute_seconds", "Time of one plug-in or network call", COMPUTE_BUCKETS_S, "model"
        )
        self._batch = self._histogram("stagemesh_batch_size", "Items of one executed batch", BATCH_BUCKETS, "model")
        self.in_flight = Gauge(
            "stagemesh_in_flight", "Requests being served", ["stage"], registry=self.registry
        ).labels(stage)
        transferred = self._counter("stagemesh_bytes", "Message bytes, before compression", "direction")
        self.bytes_in = transferred.labels(stage, "in")
        self.bytes_out = transferred.labels(stage, "out")
        self.requests_total = lru_cache(maxsize=4 * MAX_MODELS)(self._requests_total)
        self.failures_total = lru_cache(maxsize=4 * MAX_MODELS)(self._failures_total)
        self.model = lru_cache(maxsize=MAX_MODELS)(self._model)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, ["stage", *labels], registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, documentation, ["stage", *labels], buckets=buckets, registry=self.registry)

    def _known(self, model: str) -> str:
        if model and model not in self._names:
            if len(self._names) >= MAX_MODELS:
                return "other"
            self._names.add(model)
        return model

    def _requests_total(self, model: str, code: str) -> Counter:
        """Return the counter of requests to `model` that ended with the gRPC status `code`."""
        return self._requests.labels(self._stage, self._known(model), code)

    def _failures_total(self, model: str, reason: str) -> Counter:
        """Return the counter of requests to `model` that failed for `reason`, a word of ErrorInfo."""
        return self._failures.labels(self._stage, self._known(model), reason)

    def _model(self, model: str) -> ModelMetrics:
        """Return the histograms of `model`."""
        labels = (self._stage, self._known(model))
        return ModelMetrics(self._queue.labels(*labels), self._compute.labels(*labels), self._batch.labels(*labels))
