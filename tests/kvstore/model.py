"""The pool's index in plain Python, free of Redis: the oracle of the scripts in `services/kvstore/lua`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from services.kvstore.limits import Limits
from tests.kvstore.policy_model import Block, PolicyModel

SWEEP, EVICT = 512, 2048


class Model:
    """One namespace. Keys are bytes; tokens and lease ids are the caller's; times are milliseconds."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.policy = PolicyModel(limits.ghosts)
        self.blocks: dict[bytes, Block] = {}
        self.leases: dict[str, int] = {}
        self.held: dict[str, dict[bytes, str]] = {}
        self.pending: dict[bytes, int] = {}
        self.garbage: set[tuple[bytes, str]] = set()
        self.counts: Counter[str] = Counter()
        self.tenants: Counter[str] = Counter()

    # What clients call

    def match(self, now: int, keys: Sequence[bytes], lease: str = "", lease_ms: int = 0) -> list[bytes]:
        self._sweep(now)
        found: list[Block] = []
        for key in keys:
            block = self.blocks.get(key)
            if not block or not block.committed or (found and block.parent != found[-1].key):
                break
            self._touch(block, now)
            found.append(block)
        self.policy.clock += len(found)
        self.counts.update(wanted=len(keys), found=len(found))
        if lease:
            self.leases[lease] = now + lease_ms
            if found:
                self._hold(lease, found[-1])
        return [block.key for block in found]

    def reserve(
        self,
        now: int,
        parent: bytes,
        puts: Sequence[tuple[bytes, int, str]],
        tenant: str,
        model: str,
        lease: str = "",
        pinned: bool = False,
    ) -> list[str] | None:
        """The outcomes, None without a living lease."""
        self._sweep(now)
        if lease and lease not in self.leases:
            return None
        outcomes = []
        for key, size, token in puts:
            fresh = Block(key, size, token, tenant, model, parent, "", now, 0, pinned)
            outcomes.append(self._reserve(fresh, lease, now))
            self.counts["put:" + outcomes[-1]] += 1
            parent = key
        return outcomes

    def commit(self, now: int, puts: Sequence[tuple[bytes, str]]) -> list[str]:
        self._sweep(now)
        outcomes = [self._commit(key, token, now) for key, token in puts]
        self._keep_watermark()
        return outcomes

    def revoke(self, now: int, puts: Sequence[tuple[bytes, str]]) -> list[str]:
        self._sweep(now)
        outcomes = []
        for key, token in puts:
            block = self.blocks.get(key)
            if not block or block.token != token:
                outcomes.append("unknown")
            elif block.committed:
                outcomes.append("committed")
            else:
                self._erase(block, "revoked")
                outcomes.append("revoked")
        return outcomes

    def renew(self, now: int, lease: str, lease_ms: int) -> bool:
        self._sweep(now)
        if lease in self.leases:
            self.leases[lease] = now + lease_ms
        return lease in self.leases

    def release(self, now: int, lease: str) -> bool:
        self._sweep(now)
        lives = lease in self.leases
        if lives:
            self._drop_lease(lease)
        self._keep_watermark()
        return lives

    def pin(self, now: int, key: bytes, pinned: bool) -> bool:
        self._sweep(now)
        block = self.blocks.get(key)
        if not block or not block.committed:
            return False
        block.pinned = pinned
        self._update_leaf(block)
        return True

    def evict(self, now: int, down_to: int | None) -> int:
        self._sweep(now)
        if down_to is None:
            self._keep_watermark()
        else:
            self._evict_down_to(down_to, EVICT)
        return self.counts["bytes"]

    def purge(self, now: int, tenant: str, model: str) -> int:
        self._sweep(now)
        chosen = [b for b in self.blocks.values() if tenant in ("", b.tenant) and model in ("", b.model)]
        for block in chosen:
            self._erase(block, "purged")
        return len(chosen)

    def sweep(self, now: int) -> None:
        """What every call does first."""
        self._sweep(now)

    # What happens inside

    def _reserve(self, fresh: Block, lease: str, now: int) -> str:
        block = self.blocks.get(fresh.key)
        if block:
            if lease and block.committed:
                self._hold(lease, block)
            return "exists" if block.committed else "busy"
        parent = self.blocks.get(fresh.parent) if fresh.parent else None
        if fresh.parent and not parent:
            return "no_parent"
        refusal = self._room(fresh, parent)
        if refusal:
            return refusal
        fresh.hits = self.policy.recall(fresh.key)
        if parent:
            fresh.parent_token = parent.token
            self._adopt(parent)
        self.blocks[fresh.key] = fresh
        self.pending[fresh.key] = now + self.limits.reserve_ms
        self._charge(fresh, 1)
        self.counts.update(pending=1, pending_bytes=fresh.size)
        if lease:
            self._hold(lease, fresh)
        return "reserved"

    def _room(self, fresh: Block, parent: Block | None) -> str:
        if fresh.size > self.limits.capacity:
            return "no_capacity"
        if parent:
            parent.holds += 1
            self._update_leaf(parent)
        refusal = "" if self._within_quota(fresh) else "quota"
        if not refusal and not self._evict_down_to(self.limits.capacity - fresh.size):
            refusal = "no_capacity"
        if parent:
            parent.holds -= 1
            self._update_leaf(parent)
        return refusal

    def _within_quota(self, fresh: Block) -> bool:
        quota = self.limits.quota_of(fresh.tenant)
        if not quota:
            return True
        while fresh.size <= quota and self.tenants[fresh.tenant] + fresh.size > quota:
            own = self._oldest(fresh.tenant)
            if own is None:
                return False
            self._evict(own, "quota")
        return fresh.size <= quota

    def _oldest(self, tenant: str) -> Block | None:
        own = [(b.last, b.key) for b in self.blocks.values() if b.tenant == tenant and b.ranked is not None]
        return self.blocks[min(own)[1]] if own else None

    def _commit(self, key: bytes, token: str, now: int) -> str:
        block = self.blocks.get(key)
        if not block or block.token != token:
            return "unknown"
        if block.committed:
            return "committed"
        parent = self._parent(block)
        if block.parent and (not parent or not parent.committed):
            self._erase(block, "no_parent")
            return "no_parent"
        del self.pending[key]
        self.counts.update(pending=-1, pending_bytes=-block.size)
        block.committed, block.last, block.touched = True, self.policy.clock, now
        self.policy.clock += 1
        self.policy.begin_life(block.use_class, block.last)
        self._update_leaf(block)
        return "committed"

    def _touch(self, block: Block, now: int) -> None:
        self.policy.drop_leaf(block, block.last)
        self.policy.reused(block.use_class, block.last)
        block.hits, block.last, block.touched = block.hits + 1, self.policy.clock, now
        self.policy.begin_life(block.use_class, block.last)
        self._update_leaf(block)

    def _adopt(self, parent: Block) -> None:
        before = parent.use_class
        parent.children += 1
        parent.grown = True
        if parent.committed and parent.use_class != before:
            self.policy.end_life(before, parent.last)
            self.policy.begin_life(parent.use_class, parent.last)
        self._update_leaf(parent)

    def _hold(self, lease: str, block: Block) -> None:
        held = self.held.setdefault(lease, {})
        if held.get(block.key) != block.token:
            held[block.key] = block.token
            block.holds += 1
            self._update_leaf(block)

    def _drop_lease(self, lease: str) -> None:
        del self.leases[lease]
        for key, token in self.held.pop(lease, {}).items():
            block = self.blocks.get(key)
            if block and block.token == token:
                block.holds -= 1
                self._update_leaf(block)

    def _update_leaf(self, block: Block) -> None:
        self.policy.drop_leaf(block, block.last)
        if block.committed and not block.children and not block.holds and not block.pinned:
            self.policy.add_leaf(block)

    def _parent(self, block: Block) -> Block | None:
        parent = self.blocks.get(block.parent) if block.parent else None
        return parent if parent and parent.token == block.parent_token else None

    def _charge(self, block: Block, sign: int) -> None:
        self.counts.update(bytes=sign * block.size, blocks=sign)
        self.tenants[block.tenant] += sign * block.size

    def _remove(self, block: Block, cause: str) -> None:
        self.policy.drop_leaf(block, block.last)
        if not block.committed:
            del self.pending[block.key]
            self.counts.update(pending=-1, pending_bytes=-block.size)
        self._charge(block, -1)
        self.counts["removed:" + cause] += 1
        self.garbage.add((block.key, block.token))
        del self.blocks[block.key]
        parent = self._parent(block)
        if parent:
            parent.children -= 1
            self._update_leaf(parent)

    def _evict(self, block: Block, cause: str) -> None:
        self.policy.remember(block, self.counts["blocks"])
        self._remove(block, cause)

    def _erase(self, block: Block, cause: str) -> None:
        if block.committed:
            self.policy.end_life(block.use_class, block.last)
        self._remove(block, cause)

    def _sweep(self, now: int) -> None:
        self.policy.begin_call()
        for lease in [lease for lease, end in self.leases.items() if end <= now]:
            self._drop_lease(lease)
            self.counts["leases_expired"] += 1
        for key in [key for key, end in self.pending.items() if end <= now]:
            self._erase(self.blocks[key], "reaped")
        dropped = 0
        while self.limits.ttl_ms and dropped < SWEEP:
            idle = [self.blocks[leaves[0][1]] for leaves in self.policy.leaves if leaves]
            idle = [block for block in idle if block.touched + self.limits.ttl_ms <= now]
            if not idle:
                break
            self._evict(idle[0], "ttl")
            dropped += 1

    def _evict_down_to(self, down_to: int, most: float = float("inf")) -> bool:
        evicted = 0
        while self.counts["bytes"] > down_to and evicted < most:
            key = self.policy.victim(self.counts["blocks"])
            if key is None:
                break
            self._evict(self.blocks[key], "capacity")
            evicted += 1
        return self.counts["bytes"] <= down_to

    def _keep_watermark(self) -> None:
        if self.counts["bytes"] > self.limits.high_bytes:
            self._evict_down_to(self.limits.low_bytes, EVICT)
