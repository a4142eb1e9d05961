"""`stagemesh kv stats|ls|purge`: what the KV-cache pool holds, and its removal by tenant or model."""

from __future__ import annotations

import argparse
import json
import os

from google.protobuf.json_format import MessageToDict

from stagemesh.cli import console, flags
from stagemesh.client.kv import KvClient
from stagemesh.client.kv_calls import DEFAULT_KV_TARGET
from stagemesh.v1 import kvstore_pb2 as pb

_MIB = 1 << 20


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb, its three verbs and their flags."""
    parser = verbs.add_parser("kv", help="the KV-cache pool: stats, ls, purge")
    inner = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    stats = inner.add_parser("stats", help="what the pool holds and has counted")
    flags.add_json(stats, "one JSON object")
    stats.set_defaults(run=show_stats)
    listing = inner.add_parser("ls", help="the blocks of the pool, in no order")
    _add_choice(listing)
    listing.add_argument(
        "--limit", type=int, default=100, metavar="N", help="at most so many, 0 for all (default: 100)"
    )
    flags.add_json(listing, "one JSON object a block")
    listing.set_defaults(run=show_blocks)
    purge = inner.add_parser("purge", help="remove all blocks of a tenant, a model, or both; lent ones too")
    _add_choice(purge)
    purge.set_defaults(run=run_purge)
    parser.set_defaults(service="kvstore")
    for each in (stats, listing, purge):
        each.add_argument(
            "--target",
            help=f"gRPC target of the kvstore (default: $STAGEMESH_KVSTORE_TARGET, else {DEFAULT_KV_TARGET})",
        )


def show_stats(args: argparse.Namespace) -> int:
    """Print the figures of the whole pool."""
    with _client(args) as client:
        stats = client.stats()
    if args.json:
        print(json.dumps(_plain(stats)))
        return 0
    rows = console.table(console.out(), "pool", stats.namespace)
    share = 100 * stats.bytes / stats.capacity_bytes
    rows.add_row("bytes", f"{stats.bytes / _MIB:.1f} MiB of {stats.capacity_bytes / _MIB:.0f} ({share:.1f} %)")
    rows.add_row("blocks", str(stats.blocks))
    rows.add_row("being written", f"{stats.pending_blocks} ({stats.pending_bytes / _MIB:.1f} MiB)")
    rows.add_row("leases", f"{stats.leases} held, {stats.leases_expired} expired")
    found = 100 * stats.found / stats.wanted if stats.wanted else 0.0
    rows.add_row("matched", f"{stats.found} of {stats.wanted} blocks ({found:.1f} %)")
    for name, counts in (("put", stats.puts), ("removed", stats.removed)):
        rows.add_row(name, ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "-")
    for tenant, held in sorted(stats.tenant_bytes.items(), key=lambda item: -item[1]):
        rows.add_row(f"tenant {tenant!r}", f"{held / _MIB:.1f} MiB")
    console.out().print(rows)
    return 0


def show_blocks(args: argparse.Namespace) -> int:
    """Print blocks, one a line."""
    rows = console.table(console.out(), "chain", "parent", "bytes", "tenant", "model", "uses", "idle", "state")
    with _client(args) as client:
        for block in client.listing(tenant=args.tenant, model=args.model, limit=args.limit):
            if args.json:
                print(json.dumps(_plain(block)))
                continue
            names = (repr(name)[1:-1] for name in (block.tenant, block.model))
            chain, parent = block.chain.hex()[:16], block.parent.hex()[:16] or "-"
            idle = f"{block.idle_ms / 1000:.0f} s"
            rows.add_row(chain, parent, str(block.size), *names, str(block.uses), idle, _state(block))
    if not args.json:
        console.out().print(rows)
    return 0


def run_purge(args: argparse.Namespace) -> int:
    """Remove blocks, and say how many."""
    with _client(args) as client:
        removed = client.purge(tenant=args.tenant, model=args.model)
    console.out().print(f"{removed} blocks removed")
    return 0


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", default="", help="blocks of this tenant only")
    parser.add_argument("--model", default="", help="blocks of this model only")


def _client(args: argparse.Namespace) -> KvClient:
    return KvClient(args.target or os.environ.get("STAGEMESH_KVSTORE_TARGET") or DEFAULT_KV_TARGET)


def _state(block: pb.BlockInfo) -> str:
    words = ["" if block.committed else "being written", "pinned" if block.pinned else ""]
    words.append(f"lent {block.leases}" if block.leases else "")
    return ", ".join(filter(None, words)) or "-"


def _plain(message: pb.StatsResponse | pb.BlockInfo) -> dict[str, object]:
    plain: dict[str, object] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    for name in message.DESCRIPTOR.fields_by_name:
        value = getattr(message, name)
        if isinstance(value, bytes):
            plain[name] = value.hex()
        elif isinstance(value, int) and not isinstance(value, bool):
            plain[name] = value  # JSON of protobuf has 64-bit numbers as text
        elif hasattr(value, "items"):
            plain[name] = dict(value)
    return plain
