"""Where the services of a local mesh listen."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stagemesh.errors import ConfigError

HOST = "127.0.0.1"
DEFAULT_BASE = 8000
# Below the range that kernels hand out to outgoing connections.
_FREE_BLOCKS = range(20_000, 32_000, 100)
_MAX_BASE = 65_000
# The gRPC port of replica 0 counted from the base; the HTTP port is the next one, replica k adds 2k.
_OFFSETS = {"kvstore": 51, "preprocess": 11, "infer": 21, "postprocess": 41, "gateway": 1}
# How many replicas fit before the ports of the next service begin.
_ROOM = {"kvstore": 5, "preprocess": 5, "infer": 10, "postprocess": 5, "gateway": 5}
# What runs only where it is asked for.
_DEFAULT_REPLICAS = {"kvstore": 0}
SERVICES = tuple(_OFFSETS)


@dataclass(frozen=True, slots=True)
class Place:
    """One replica of one service and its two ports on this machine."""

    service: str
    replica: int
    port: int

    @property
    def name(self) -> str:
        return f"{self.service}-{self.replica}"

    @property
    def base(self) -> int:
        """The port base this place was planned with."""
        return self.port - _OFFSETS[self.service] - 2 * self.replica

    @property
    def http_port(self) -> int:
        return self.port + 1

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"


def parse_replicas(text: str) -> dict[str, int]:
    """`infer=2,preprocess=1` as a dict; raises ConfigError naming what can't be used."""
    counts: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        service, _, number = item.partition("=")
        if service not in SERVICES:
            raise ConfigError(f"replicas: expected one of {', '.join(sorted(SERVICES))}, found {service!r}")
        if not number.isdecimal() or not 1 <= int(number) <= _ROOM[service]:
            raise ConfigError(f"replicas: expected {service}=1 to {service}={_ROOM[service]}, found {item!r}")
        counts[service] = int(number)
    return counts


def plan(replicas: Mapping[str, int], base: int) -> tuple[Place, ...]:
    """Every replica with its ports, in the order to start them: the gateway last."""
    if not 0 < base <= _MAX_BASE:
        raise ConfigError(f"port base: expected 1 to {_MAX_BASE}, or 0 for a free block, found {base}")
    return tuple(
        Place(service, replica, base + offset + 2 * replica)
        for service, offset in _OFFSETS.items()
        for replica in range(replicas.get(service, _DEFAULT_REPLICAS.get(service, 1)))
    )


def plan_free(replicas: Mapping[str, int]) -> tuple[Place, ...]:
    """A plan on a block of ports that nobody uses now."""
    for base in random.sample(_FREE_BLOCKS, k=len(_FREE_BLOCKS)):
        places = plan(replicas, base)
        if not any(taken_ports(place) for place in places):
            return places
    raise ConfigError(f"port base 0: no free block of ports in {_FREE_BLOCKS.start} to {_FREE_BLOCKS.stop}")


def check_free(places: Iterable[Place]) -> None:
    """Raise ConfigError naming the first port that another process holds."""
    for place in places:
        for port in taken_ports(place):
            raise ConfigError(
                f"port {port} for {place.name} is in use by another process; "
                "stop that one, or choose other ports with --port-base (0 finds free ones)"
            )


def taken_ports(place: Place) -> list[int]:
    """The ports of a place that can't be bound now."""
    return [port for port in (place.port, place.http_port) if not _can_bind(port)]


def targets(places: Iterable[Place]) -> dict[str, str]:
    """gRPC target of each service, as `ipv4:127.0.0.1:8021,127.0.0.1:8023`."""
    addresses: dict[str, list[str]] = {}
    for place in places:
        addresses.setdefault(place.service, []).append(place.address)
    return {service: f"ipv4:{','.join(found)}" for service, found in addresses.items()}


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, so that connections of an earlier run in TIME_WAIT don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
