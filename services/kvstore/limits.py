"""What an operator sets on a pool: how much it holds, for how long, and for whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one namespace; every replica of the service must be given the same. Raises ValueError."""

    capacity: int  # bytes of block values, reserved ones included
    high: float = 0.98  # share of the capacity above which unlent blocks are evicted ...
    step: float = 0.01  # ... until this share less is held
    ttl_ms: int = 0  # idle blocks are dropped after this time; 0 keeps them
    reserve_ms: int = 30_000  # a reservation not committed by then is revoked
    quota: int = 0  # bytes of one tenant; 0 is no quota
    quotas: Mapping[str, int] = field(default_factory=dict)  # tenants with a quota of their own
    ghosts: int = 65_536  # evicted blocks remembered at most, some 200 bytes each

    def __post_init__(self) -> None:
        for name in ("capacity", "reserve_ms"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected a positive number, found {getattr(self, name)}")
        for name in ("ttl_ms", "quota", "ghosts"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, found {getattr(self, name)}")
        if not 0 <= self.step <= self.high <= 1 or self.high == 0:
            raise ValueError(f"expected 0 <= step <= high <= 1, found step {self.step}, high {self.high}")

    def quota_of(self, tenant: str) -> int:
        """Bytes that `tenant` may hold; 0 is no quota."""
        return self.quotas.get(tenant, self.quota)

    @property
    def high_bytes(self) -> int:
        """Above this, eviction starts."""
        return int(self.capacity * self.high)

    @property
    def low_bytes(self) -> int:
        """Down to this, eviction goes on."""
        return int(self.capacity * (self.high - self.step))

    def encode(self) -> str:
        """As every script takes it."""
        return json.dumps(
            {
                "capacity": self.capacity,
                "high": self.high_bytes,
                "low": self.low_bytes,
                "ttl": self.ttl_ms,
                "reserve": self.reserve_ms,
                "ghosts": self.ghosts,
            }
        )
