"""All that the scripts keep in Redis, and all that the model keeps, in one comparable form."""

from __future__ import annotations

import struct
from typing import Any

from redis.asyncio import Redis

from tests.kvstore.model import Model

HEAD = struct.Struct(">BBBdddIII")
CLASSES = 6
COUNTS = ("bytes", "blocks", "pending", "pending_bytes", "wanted", "found", "leases_expired")


def decode(raw: bytes) -> tuple[Any, ...]:
    """A record: flags, class as a leaf, size, last, touched, hits, children, holds, then five strings."""
    version, *numbers = HEAD.unpack_from(raw)
    assert version == 1
    at, strings = HEAD.size, []
    for _ in range(5):
        (length,) = struct.unpack_from(">H", raw, at)
        strings.append(raw[at + 2 : at + 2 + length])
        at += 2 + length
    assert at == len(raw)
    return (*numbers, *strings)


async def of_redis(client: Redis, namespace: str) -> dict[str, Any]:
    """Read a namespace whole."""
    redis: Any = client  # redis-py types its replies for every protocol and decoding at once
    pre = f"{{{namespace}}}:"
    count = {k.decode(): int(v) for k, v in (await redis.hgetall(pre + "count")).items()}
    leases = {k.decode(): int(v) for k, v in await redis.zrange(pre + "leases", 0, -1, withscores=True)}
    held = {lease: await redis.hgetall(f"{pre}lease:{lease}") for lease in leases}
    assert {k.decode().rsplit(":", 1)[1] for k in await redis.keys(pre + "lease:*")} <= set(leases)
    return {
        "blocks": {k: decode(v) for k, v in (await redis.hgetall(pre + "blocks")).items()},
        "leases": leases,
        "held": {lease: {k: t.decode() for k, t in keys.items()} for lease, keys in held.items() if keys},
        "pending": dict(await redis.zrange(pre + "pending", 0, -1, withscores=True)),
        "leaves": [
            [(int(last), key) for key, last in await redis.zrange(f"{pre}leaf:{number}", 0, -1, withscores=True)]
            for number in range(CLASSES)
        ],
        "ghosts": {k: struct.unpack(">BdI", v) for k, v in (await redis.hgetall(pre + "ghost")).items()},
        "ghost_order": [(int(last), k) for k, last in await redis.zrange(pre + "ghosts", 0, -1, withscores=True)],
        "learned": {k.decode(): int(v) for k, v in (await redis.hgetall(pre + "learn")).items()},
        "garbage": {tuple(m.split(b" ", 1)) for m in await redis.smembers(pre + "garbage")},
        "tenants": {k.decode(): int(v) for k, v in (await redis.hgetall(pre + "tenants")).items()},
        "counts": {name: count.get(name, 0) for name in COUNTS},
        "events": {k: v for k, v in count.items() if ":" in k},
        "clock": count.get("clock", 0),
    }


def of_model(model: Model) -> dict[str, Any]:
    """The same of the oracle."""
    policy = model.policy
    return {
        "blocks": {
            b.key: (
                b.committed + 2 * b.grown + 4 * b.pinned,
                255 if b.ranked is None else b.ranked,
                *(b.size, b.last, b.touched, b.hits, b.children, b.holds, b.parent),
                *(part.encode() for part in (b.parent_token, b.token, b.tenant, b.model)),
            )
            for b in model.blocks.values()
        },
        "leases": model.leases,
        "held": model.held,
        "pending": model.pending,
        "leaves": policy.leaves,
        "ghosts": policy.ghosts,
        "ghost_order": policy.ghost_order,
        "learned": {f"{k}:{c}:{n}": v for (k, c, n), v in policy.learned.items() if v},
        "garbage": {(token.encode(), key) for key, token in model.garbage},
        "tenants": {k: v for k, v in model.tenants.items() if v},
        "counts": {name: model.counts[name] for name in COUNTS},
        "events": {k: v for k, v in model.counts.items() if ":" in k and v},
        "clock": policy.clock,
    }
