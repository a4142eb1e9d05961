"""From what the pool says to messages."""

from __future__ import annotations

from collections.abc import Sequence

from services.kvstore.index import IndexStats, Listed, Outcome
from stagemesh.kv.keys import HASH_BYTES
from stagemesh.v1 import kvstore_pb2 as pb

_OUTCOMES: dict[Outcome, pb.PutOutcome] = {each: getattr(pb, f"PUT_OUTCOME_{each.name}") for each in Outcome}


def encode_outcomes(outcomes: Sequence[Outcome]) -> list[pb.PutOutcome]:
    """What became of the blocks of a put."""
    return [_OUTCOMES[outcome] for outcome in outcomes]


def chosen_by(tenant: str, model: str, block: Listed) -> bool:
    """Whether the block is of that tenant and model, "" for any."""
    return tenant in ("", block.tenant) and model in ("", block.model)


def encode_block(block: Listed) -> pb.BlockInfo:
    """A block of a listing."""
    return pb.BlockInfo(
        fingerprint=block.key[:HASH_BYTES],
        chain=block.key[HASH_BYTES:],
        parent=block.parent[HASH_BYTES:],
        token=block.token,
        size=block.size,
        tenant=block.tenant,
        model=block.model,
        uses=block.uses,
        idle_ms=block.idle_ms,
        committed=block.committed,
        pinned=block.pinned,
        leases=block.leases,
    )


def encode_stats(stats: IndexStats, namespace: str, capacity: int) -> pb.StatsResponse:
    """What the pool holds and has counted."""
    count = stats.counters.get
    return pb.StatsResponse(
        namespace=namespace,
        capacity_bytes=capacity,
        bytes=count("bytes", 0),
        blocks=count("blocks", 0),
        pending_bytes=count("pending_bytes", 0),
        pending_blocks=count("pending", 0),
        leases=stats.leases,
        leases_expired=count("leases_expired", 0),
        garbage=stats.garbage,
        wanted=count("wanted", 0),
        found=count("found", 0),
        tenant_bytes=stats.tenants,
        puts=stats.of_kind("put"),
        removed=stats.of_kind("removed"),
    )
