"""Whether a Redis can carry the pool: version, eviction policy, memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from redis import exceptions

from services.kvstore.limits import Limits
from services.kvstore.redis_client import Client, RedisDown

OLDEST = (6, 2)

log = logging.getLogger(__name__)


async def check_redis(client: Client, limits: Limits) -> None:
    """Raises RedisDown for a server that is too old or evicts by itself, and what redis-py raises.

    A server that doesn't tell is taken as it is; one with less memory than the pool may hold is warned of.
    """
    try:
        info = await client.info()
    except exceptions.NoPermissionError:
        log.warning("the Redis user may not ask INFO: version, eviction policy and memory are not checked")
        return
    # A cluster's answer is one INFO a server.
    servers = [info] if "redis_version" in info else [each for each in info.values() if isinstance(each, Mapping)]
    for server in servers:
        _check(server)
    memory = [int(server.get("maxmemory", 0)) for server in servers]
    if all(memory) and memory and sum(memory) < limits.capacity:
        log.warning("Redis may hold %d bytes, less than the pool's capacity of %d", sum(memory), limits.capacity)


def _check(server: Mapping[str, Any]) -> None:
    version = str(server.get("redis_version", ""))
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise RedisDown(f"expected Redis 6.2 or newer, found {version}", reason="KV_REDIS_UNFIT")
    policy = server.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise RedisDown(f"expected maxmemory-policy noeviction, found {policy}", reason="KV_REDIS_UNFIT")
