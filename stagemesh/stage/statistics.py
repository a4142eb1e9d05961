"""Counts and durations of one model, as OIP's ModelStatistics reports them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stagemesh.oip import open_inference_pb2 as pb


@dataclass(slots=True)
class Span:
    """How often something happened and how long it took in all, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count one occurrence of that many seconds."""
        self.count += 1
        self.ns += int(seconds * 1e9)

    def to_proto(self) -> pb.StatisticDuration:
        """The same as the protocol's message."""
        return pb.StatisticDuration(count=self.count, ns=self.ns)


@dataclass(slots=True)
class ModelStatistics:
    """What perf_analyzer and dashboards read about one model of one server."""

    success: Span = field(default_factory=Span)
    fail: Span = field(default_factory=Span)
    queue: Span = field(default_factory=Span)
    compute_input: Span = field(default_factory=Span)
    compute_infer: Span = field(default_factory=Span)
    compute_output: Span = field(default_factory=Span)
    batches: dict[int, Span] = field(default_factory=dict)
    inferences: int = 0
    last_ms: int = 0

    def batch(self, rows: int, seconds: float) -> None:
        """Count one execution of a batch of `rows` samples."""
        self.batches.setdefault(rows, Span()).add(seconds)
        self.inferences += rows
        self.last_ms = int(time.time() * 1000)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count one request: as failed where the block raises."""
        started, span = time.monotonic(), self.fail
        try:
            yield
            span = self.success
        finally:
            span.add(time.monotonic() - started)

    def to_proto(self, name: str, version: str) -> pb.ModelStatistics:
        """The protocol's message for a model of that name and version."""
        return pb.ModelStatistics(
            name=name,
            version=version,
            last_inference=self.last_ms,
            inference_count=self.inferences,
            execution_count=sum(span.count for span in self.batches.values()),
            inference_stats=pb.InferStatistics(
                success=self.success.to_proto(),
                fail=self.fail.to_proto(),
                queue=self.queue.to_proto(),
                compute_input=self.compute_input.to_proto(),
                compute_infer=self.compute_infer.to_proto(),
                compute_output=self.compute_output.to_proto(),
            ),
            batch_stats=[
                pb.InferBatchStatistics(batch_size=rows, compute_infer=span.to_proto())
                for rows, span in sorted(self.batches.items())
            ],
        )
