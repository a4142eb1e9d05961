"""The index of the pool: which blocks it holds, for whom, lent to whom, and which go next.

All state is in Redis and changed by Lua scripts, one round trip a call, so any number of replicas may share a
namespace. Its keys share the hash tag `{namespace}` and with it one slot of a Redis Cluster. Values are not touched
here: they live under keys of their own, `value_key`, anywhere in the cluster.

A value key ends in the token of its reservation. A block that is evicted and put again is a new value under a new
key, so deleting garbage late never deletes a live value, and a late writer never overwrites one.

The clock is Redis's own unless one is given: replicas agree on it whatever their machines say. Tests give one.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from services.kvstore.limits import Limits
from services.kvstore.scripts import Argument, Redis, call
from stagemesh.errors import StagemeshError


class LeaseLost(StagemeshError):
    """The lease has ended or never was; what it held may be gone."""

    code = "FAILED_PRECONDITION"
    default_reason = "LEASE_LOST"


class Outcome(StrEnum):
    """What became of one block of a put."""

    RESERVED = "reserved"  # write the value, then commit
    EXISTS = "exists"  # committed before; under a lease it is held now
    BUSY = "busy"  # reserved by someone else
    NO_PARENT = "no_parent"  # the block before it is not there (any more)
    NO_CAPACITY = "no_capacity"  # larger than the pool, or all else is lent, pinned or being written
    QUOTA = "quota"  # the tenant's other blocks are lent or pinned too
    COMMITTED = "committed"  # readable
    REVOKED = "revoked"
    UNKNOWN = "unknown"  # no such reservation: revoked, reaped or purged
    NOT_WRITTEN = "not_written"  # no answer of the scripts: the value isn't there, or not in the size reserved


@dataclass(frozen=True, slots=True)
class Located:
    """A committed block: `size` is the length of its value in bytes, `token` part of its value key."""

    key: bytes
    token: str
    size: int


@dataclass(frozen=True, slots=True)
class Match:
    """The longest contiguous prefix found; `lease` is empty where none was asked for.

    `missing` says why the block after it isn't there: unknown (never put, or long forgotten), evicted, pending (being
    written) or detached (it follows another block); empty where all were found.
    """

    blocks: tuple[Located, ...]
    lease: str
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Reservation:
    """One block of a put."""

    key: bytes
    token: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Listed:
    """A block as the index has it; `parent` is empty at the start of a chain, `uses` counts earlier lives too."""

    key: bytes
    token: str
    size: int
    parent: bytes
    tenant: str
    model: str
    uses: int
    idle_ms: int
    committed: bool
    pinned: bool
    leases: int


@dataclass(frozen=True, slots=True)
class IndexStats:
    """`counters`: bytes, blocks, pending, pending_bytes, clock (uses), wanted, found, put:OUTCOME, removed:CAUSE
    (capacity, quota, ttl, revoked, reaped, no_parent, purged), leases_expired; a counter that is 0 is missing."""

    counters: dict[str, int]
    tenants: dict[str, int]
    leases: int
    garbage: int
    ghosts: int

    def of_kind(self, kind: str) -> dict[str, int]:
        """The counters `KIND:NAME` by name."""
        found = (name.partition(":") for name in self.counters)
        return {name: self.counters[f"{first}:{name}"] for first, _, name in found if first == kind and name}


class Index:
    """One namespace of the pool. Errors of Redis pass through."""

    def __init__(self, redis: Redis, namespace: str, limits: Limits, clock: Callable[[], int] | None = None) -> None:
        """`clock` gives milliseconds that never run backwards, the same for all replicas."""
        if not namespace or {"{", "}"} & set(namespace):
            raise ValueError(f"expected a namespace without braces, found {namespace!r}")
        self._redis = redis
        self._namespace = namespace
        self._prefix = f"{{{namespace}}}:"
        self._limits = limits
        self._encoded_limits = limits.encode()
        self._clock = clock

    def value_key(self, key: bytes, token: str) -> bytes:
        """Where the value of a block lives; a key without braces is spread over all slots."""
        return b"%s/%s/%s" % (self._namespace.encode(), key, token.encode())

    async def match(self, keys: Sequence[bytes], lease_ms: int = 0) -> Match:
        """The longest prefix of the chain `keys` that is readable; counts as a use of each of its blocks.

        With `lease_ms` the prefix can't be evicted until the lease is released or that time has passed. A lease is
        given even where nothing is found: puts need one.
        """
        lease = secrets.token_hex(16) if lease_ms else ""
        count, tokens, sizes, missing = cast(
            "tuple[int, list[bytes], list[int], bytes]", await self._call("match", lease, lease_ms, *keys)
        )
        found = zip(keys[:count], tokens, sizes, strict=True)
        blocks = tuple(Located(key, token.decode(), size) for key, token, size in found)
        return Match(blocks, lease, missing.decode())

    async def reserve(
        self,
        parent: bytes,
        blocks: Sequence[tuple[bytes, int]],
        *,
        tenant: str,
        model: str,
        lease: str = "",
        pinned: bool = False,
    ) -> list[Reservation]:
        """Make room for a run of a chain: (key, size in bytes) each, the first after `parent`, b"" for none.

        Under a lease the blocks stay at least as long as it lives. Raises LeaseLost.
        """
        tokens = [secrets.token_hex(8) for _ in blocks]
        wanted: list[Argument] = []
        for (key, size), token in zip(blocks, tokens, strict=True):
            wanted += [key, size, token]
        quota = self._limits.quota_of(tenant)
        answer = await self._call("reserve", lease, parent, tenant, model, quota, int(pinned), *wanted)
        outcomes = cast("list[bytes]", answer)
        if outcomes == [b"no_lease"]:
            raise LeaseLost(f"put under lease {lease}: expected a lease that lives, found none; match again")
        return [
            Reservation(key, token, Outcome(outcome.decode()))
            for (key, _), token, outcome in zip(blocks, tokens, outcomes, strict=True)
        ]

    async def commit(self, reservations: Sequence[Reservation]) -> list[Outcome]:
        """Make written blocks readable: COMMITTED (again, if repeated), UNKNOWN or NO_PARENT. Parents come first."""
        return await self._settle("commit", reservations)

    async def revoke(self, reservations: Sequence[Reservation]) -> list[Outcome]:
        """Give reservations up: REVOKED, UNKNOWN, or COMMITTED where it is too late."""
        return await self._settle("revoke", reservations)

    async def renew(self, lease: str, lease_ms: int) -> None:
        """Let the lease live for `lease_ms` from now. Raises LeaseLost."""
        if not await self._call("renew", lease, lease_ms):
            raise LeaseLost(f"renew lease {lease}: expected a lease that lives, found none")

    async def release(self, lease: str) -> bool:
        """End the lease; the policy decides now what stays. False where it had ended before."""
        return bool(await self._call("release", lease))

    async def pin(self, key: bytes, pinned: bool = True) -> bool:
        """Keep a block, and with it its whole prefix, until it is unpinned; False where there is none."""
        return bool(await self._call("pin", key, int(pinned)))

    async def evict(self, down_to: int | None = None) -> int:
        """Drop what has expired, then evict: to the watermark, or to `down_to` bytes. Returns the bytes held.

        One call evicts a bounded number of blocks; the reaper calls it again and again.
        """
        return cast("int", await self._call("evict", "" if down_to is None else down_to))

    async def purge(self, *, tenant: str = "", model: str = "") -> int:
        """Remove all blocks of a tenant, a model, or a tenant's of a model, lent and pinned ones too; how many.

        Works in pieces; when it returns nothing is left of what was there when it began.
        """
        if not tenant and not model:
            raise ValueError("expected a tenant or a model to purge, found neither")
        removed, cursor = 0, b"0"
        while True:
            answer = await self._call("purge", tenant, model, cursor)
            cursor, chunk = cast("tuple[bytes, int]", answer)
            removed += chunk
            if cursor == b"0":
                return removed

    async def drop(self, cause: str, blocks: Sequence[tuple[bytes, str]]) -> int:
        """Remove committed blocks, key and token each, whose values are broken or gone; lent ones too. How many."""
        named = [part for block in blocks for part in block]
        return cast("int", await self._call("drop", cause, *named))

    async def listing(self) -> AsyncIterator[list[Listed]]:
        """All blocks, piece by piece, in no order; one that comes or goes meanwhile may be missing."""
        cursor = b"0"
        while True:
            answer = await self._call("list", cursor)
            cursor, found = cast("tuple[bytes, list[list[Any]]]", answer)
            yield [_listed(*record) for record in found]
            if cursor == b"0":
                return

    async def known(self, blocks: Sequence[tuple[bytes, str]]) -> list[bool]:
        """Whether there is a block, or a reservation, of each key and token."""
        named = [part for block in blocks for part in block]
        return [bool(each) for each in cast("list[int]", await self._call("known", *named))]

    async def reset(self) -> int:
        """Forget everything, in one step: for an index that others have written to. Returns how many keys it had."""
        return cast("int", await self._call("reset"))

    async def garbage(self, most: int, deleted: Sequence[bytes] = ()) -> list[bytes]:
        """Up to `most` value keys whose blocks are gone; `deleted` are earlier ones that the caller has unlinked."""
        start = len(self.value_key(b"", "")) - 1
        members = [b"%s %s" % (token, key) for key, token in (name[start:].rsplit(b"/", 1) for name in deleted)]
        answer = await self._call("garbage", most, *members)
        found = (member.split(b" ", 1) for member in cast("list[bytes]", answer))
        return [self.value_key(key, token.decode()) for token, key in found]

    async def stats(self) -> IndexStats:
        """The counters, after dropping what has expired."""
        count, tenants, leases, garbage, ghosts = cast("tuple[Any, Any, int, int, int]", await self._call("stats"))
        return IndexStats(_numbers(count), _numbers(tenants), leases, garbage, ghosts)

    async def _settle(self, script: str, reservations: Sequence[Reservation]) -> list[Outcome]:
        named = [part for each in reservations for part in (each.key, each.token)]
        return [Outcome(outcome.decode()) for outcome in cast("list[bytes]", await self._call(script, *named))]

    async def _call(self, script: str, *arguments: Argument) -> object:
        now = "" if self._clock is None else self._clock()
        return await call(self._redis, script, self._prefix, now, self._encoded_limits, *arguments)


def _listed(key: bytes, token: bytes, size: int, parent: bytes, tenant: bytes, model: bytes, *numbers: int) -> Listed:
    uses, idle_ms, committed, pinned, leases = numbers
    names = (tenant.decode("utf-8", "replace"), model.decode("utf-8", "replace"))
    return Listed(key, token.decode(), size, parent, *names, uses, idle_ms, bool(committed), bool(pinned), leases)


def _numbers(flat: Sequence[bytes]) -> dict[str, int]:
    return {name.decode(): int(number) for name, number in zip(flat[::2], flat[1::2], strict=True)}
