"""Channels between stages: balanced by health, retried at any message size, kept alive."""

from __future__ import annotations

import json

import grpc

Option = tuple[str, str | int]

MAX_MESSAGE_BYTES = 256 << 20
KEEPALIVE_MS = 30_000
MIN_PING_INTERVAL_MS = 10_000
"""A server closes a connection that pings more often than this: it must stay below KEEPALIVE_MS."""
KEEPALIVE_TIMEOUT_MS = 20_000

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "retryThrottling": {"maxTokens": 1000, "tokenRatio": 1.0},
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


def keepalive_options() -> list[Option]:
    """Return the keepalive options that both ends of a connection share."""
    return [
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def channel_options(max_message_bytes: int = MAX_MESSAGE_BYTES, *, only_ready: bool = True) -> list[Option]:
    """Return the options of a client channel that takes and sends messages up to `max_message_bytes`.

    A server that says it is not ready gets no call, unless `only_ready` is False.
    """
    config = {key: value for key, value in _SERVICE_CONFIG.items() if only_ready or key != "healthCheckConfig"}
    return [
        *keepalive_options(),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.service_config", json.dumps(config)),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_retries", 1),
        # gRPC keeps 256 KiB of a call by default and never retries a larger one: too little for a tensor.
        ("grpc.per_rpc_retry_buffer_size", max_message_bytes),
        ("grpc.dns_min_time_between_resolutions_ms", 5_000),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # gRPC would send calls, even to loopback addresses, through the proxy of the environment.
        ("grpc.enable_http_proxy", 0),
    ]


def aio_channel(
    target: str, max_message_bytes: int = MAX_MESSAGE_BYTES, *, only_ready: bool = True
) -> grpc.aio.Channel:
    """Return an asyncio channel to `target`, a gRPC name such as `dns:///infer:8001` or `ipv4:a:1,b:2`."""
    return grpc.aio.insecure_channel(target, options=channel_options(max_message_bytes, only_ready=only_ready))


def sync_channel(target: str, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.Channel:
    """Return a blocking channel to `target`, with the behaviour of `aio_channel`."""
    return grpc.insecure_channel(target, options=channel_options(max_message_bytes))
