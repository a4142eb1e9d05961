"""Metrics: the documented names and labels, apart for each instance, bounded in number."""

from __future__ import annotations

from prometheus_client import generate_latest

from stagemesh.telemetry import MAX_MODELS, Metrics


def test_names_and_labels() -> None:
    metrics = Metrics("infer")
    metrics.requests_total("classify", "OK").inc()
    metrics.failures_total("classify", "QUEUE_FULL").inc()
    metrics.model("classify").queue_seconds.observe(0.002)
    metrics.model("classify").compute_seconds.observe(0.02)
    metrics.model("classify").batch_size.observe(4)
    metrics.in_flight.set(3)
    metrics.bytes_in.inc(10)
    text = generate_latest(metrics.registry).decode()
    for line in (
        'stagemesh_requests_total{code="OK",model="classify",stage="infer"} 1.0',
        'stagemesh_failures_total{model="classify",reason="QUEUE_FULL",stage="infer"} 1.0',
        'stagemesh_queue_seconds_bucket{le="0.0025",model="classify",stage="infer"} 1.0',
        'stagemesh_compute_seconds_sum{model="classify",stage="infer"} 0.02',
        'stagemesh_batch_size_bucket{le="4.0",model="classify",stage="infer"} 1.0',
        'stagemesh_in_flight{stage="infer"} 3.0',
        'stagemesh_bytes_total{direction="in",stage="infer"} 10.0',
    ):
        assert line in text


def test_instances_do_not_share() -> None:
    first, second = Metrics("a"), Metrics("a")
    first.requests_total("m", "OK").inc()
    assert 'model="m"' not in generate_latest(second.registry).decode()


def test_endless_model_names_share_one_label() -> None:
    metrics = Metrics("a")
    for number in range(10 * MAX_MODELS):
        metrics.requests_total(f"m{number}", "OK").inc()
        metrics.model(f"m{number}")
    text = generate_latest(metrics.registry).decode()
    assert text.count("stagemesh_requests_total{") == MAX_MODELS + 1
    assert f'stagemesh_requests_total{{code="OK",model="other",stage="a"}} {9.0 * MAX_MODELS}' in text
