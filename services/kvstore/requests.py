"""From messages to what the pool takes: every field checked before anything is done with it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.kvstore.index import Outcome, Reservation
from services.kvstore.pool import Plan
from services.kvstore.settings import MIB, KvStoreSettings
from services.kvstore.values import Wanted
from stagemesh.errors import InvalidInput
from stagemesh.kv.block import HEADER_BYTES
from stagemesh.kv.keys import HASH_BYTES
from stagemesh.kv.names import escape
from stagemesh.v1 import kvstore_pb2 as pb

DEFAULT_TENANT = "default"
_TOKEN = re.compile("[0-9a-f]{16}")
_LEASE = re.compile("[0-9a-f]{32}")


class Requests:
    """Reads messages by the settings of the service. Every method raises InvalidInput."""

    def __init__(self, settings: KvStoreSettings) -> None:
        self._max_keys = settings.kv_max_keys
        self._max_lease_ms = round(settings.kv_max_lease_s * 1000)
        self._max_block = min(settings.kv_max_block_mib * MIB, settings.max_message_bytes - 64)

    def keys(self, fingerprint: bytes, chains: Sequence[bytes]) -> list[bytes]:
        """The index keys of a chain."""
        _hash("fingerprint", fingerprint)
        if len(chains) > self._max_keys:
            text = f"chains: expected at most {self._max_keys} in one call, found {len(chains)}"
            raise InvalidInput(text, reason="TOO_MANY_KEYS")
        for chain in chains:
            _hash("chains", chain)
        return [fingerprint + chain for chain in chains]

    def lease_ms(self, milliseconds: int) -> int:
        """How long a lease is to live."""
        if milliseconds > self._max_lease_ms:
            raise InvalidInput(f"lease_ms: expected at most {self._max_lease_ms}, found {milliseconds}")
        return milliseconds

    def lease(self, lease: str) -> str:
        """A lease's id."""
        if not _LEASE.fullmatch(lease):
            raise InvalidInput(f"lease: expected one that Match gave, found {lease[:64]!r}")
        return lease

    def reservations(
        self, request: pb.CommitRequest | pb.RevokeRequest | pb.ReportRequest | pb.GetRequest
    ) -> list[Reservation]:
        """The blocks of a request, by key and token."""
        keys = self.keys(request.fingerprint, request.chains)
        _parallel("tokens", request.tokens, keys)
        for token in request.tokens:
            if not _TOKEN.fullmatch(token):
                raise InvalidInput(f"tokens: expected 16 hex digits, found {token[:64]!r}")
        return [Reservation(key, token, Outcome.RESERVED) for key, token in zip(keys, request.tokens, strict=True)]

    def sizes(self, sizes: Sequence[int], keys: Sequence[object]) -> list[int]:
        """The sizes of as many values."""
        _parallel("sizes", sizes, keys)
        for size in sizes:
            if not HEADER_BYTES <= size <= self._max_block:
                text = f"sizes: expected {HEADER_BYTES} to {self._max_block} bytes, found {size}"
                raise InvalidInput(text, reason="OVERSIZED_BLOCK" if size > self._max_block else "")
        return list(sizes)

    def plan(self, message: pb.PutPlan) -> Plan:
        """What is to be put."""
        keys = self.keys(message.fingerprint, message.chains)
        if not keys:
            raise InvalidInput("chains: expected at least one block to put, found none")
        parent = message.fingerprint + _hash("parent", message.parent) if message.parent else b""
        if len(set(keys)) < len(keys) or parent in keys:
            raise InvalidInput("chains: expected each block once, found one twice")
        tenant = message.tenant or DEFAULT_TENANT
        escape(tenant, "tenant")
        if message.model:
            escape(message.model, "model")
        return Plan(
            list(zip(keys, self.sizes(message.sizes, keys), strict=True)),
            parent,
            tenant,
            message.model,
            self.lease(message.lease) if message.lease else "",
            message.pinned,
        )


def wanted(reservations: Sequence[Reservation], sizes: Sequence[int], places: Sequence[bytes]) -> list[Wanted]:
    """What to read for blocks that lie at `places`."""
    rows = zip(reservations, places, sizes, strict=True)
    return [Wanted(index, each.key, place, size) for index, (each, place, size) in enumerate(rows)]


def _hash(name: str, value: bytes) -> bytes:
    if len(value) != HASH_BYTES:
        raise InvalidInput(f"{name}: expected {HASH_BYTES} bytes, found {len(value)}")
    return value


def _parallel(name: str, values: Sequence[object], keys: Sequence[object]) -> None:
    if len(values) != len(keys):
        raise InvalidInput(f"{name}: expected one for each of {len(keys)} blocks, found {len(values)}")
