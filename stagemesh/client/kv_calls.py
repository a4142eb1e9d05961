"""The calls a client of the KV-cache pool can make, as values, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from stagemesh.client.calls import Call
from stagemesh.kv.keys import Link
from stagemesh.v1 import kvstore_pb2 as pb

DEFAULT_KV_TARGET = "127.0.0.1:8051"


class Put(StrEnum):
    """What became of one block of a put; the last six say why it isn't there."""

    COMMITTED = "committed"
    EXISTS = "exists"
    RESERVED = "reserved"
    BUSY = "busy"
    NO_PARENT = "no_parent"
    NO_CAPACITY = "no_capacity"
    QUOTA = "quota"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    NOT_WRITTEN = "not_written"


_OUTCOMES = {getattr(pb, f"PUT_OUTCOME_{outcome.name}"): outcome for outcome in Put}


@dataclass(frozen=True, slots=True)
class Missed:
    """A block that can't be had, and why, in a word of docs/kv.md."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the values lie, as the service says it; no `url` where it keeps that to itself."""

    namespace: str = ""
    url: str = ""
    cluster: bool = False

    def key(self, fingerprint: bytes, chain: bytes, token: str) -> str:
        """The Redis key of a value."""
        return f"{self.namespace}/{fingerprint.hex()}/{chain.hex()}/{token}"


@dataclass(frozen=True, slots=True)
class Prefix:
    """The blocks that a match found, from the start of the chain: their links, tokens and sizes in bytes.

    `lease` is empty where none was asked for; `missing` says why the next block isn't there, "" where all were found.
    """

    fingerprint: bytes
    links: Sequence[Link]
    tokens: Sequence[str]
    sizes: Sequence[int]
    lease: str = ""
    missing: str = ""
    place: Place = Place()

    def __len__(self) -> int:
        return len(self.links)

    def part(self, indices: Sequence[int]) -> Prefix:
        """Some of its blocks."""
        return replace(
            self,
            links=[self.links[index] for index in indices],
            tokens=[self.tokens[index] for index in indices],
            sizes=[self.sizes[index] for index in indices],
        )

    def request(self) -> pb.GetRequest:
        """The request to read its blocks."""
        chains = [link.chain for link in self.links]
        return pb.GetRequest(fingerprint=self.fingerprint, chains=chains, tokens=self.tokens, sizes=self.sizes)


@dataclass(frozen=True, slots=True)
class Reserved:
    """The blocks of a put by outcome; RESERVED ones are to be written with a time to live of `expire_ms`."""

    outcomes: Sequence[Put]
    tokens: Sequence[str]
    expire_ms: int
    place: Place


def match(fingerprint: bytes, links: Sequence[Link], lease_ms: int) -> Call[Prefix]:
    request = pb.MatchRequest(fingerprint=fingerprint, chains=[link.chain for link in links], lease_ms=lease_ms)

    def parse(answer: pb.MatchResponse) -> Prefix:
        found = links[: len(answer.tokens)]
        rows = (found, list(answer.tokens), list(answer.sizes))
        return Prefix(fingerprint, *rows, answer.lease, answer.miss_reason, _place(answer.place))

    return Call("Match", request, parse)


def reserve(plan: pb.PutPlan) -> Call[Reserved]:
    def parse(answer: pb.ReserveResponse) -> Reserved:
        return Reserved(outcomes(answer), list(answer.tokens), answer.expire_ms, _place(answer.place))

    return Call("Reserve", pb.ReserveRequest(plan=plan), parse, plan.model)


def commit(fingerprint: bytes, chains: Sequence[bytes], tokens: Sequence[str], sizes: Sequence[int]) -> Call[list[Put]]:
    request = pb.CommitRequest(fingerprint=fingerprint, chains=chains, tokens=tokens, sizes=sizes)
    return Call("Commit", request, outcomes)


def revoke(fingerprint: bytes, chains: Sequence[bytes], tokens: Sequence[str]) -> Call[list[Put]]:
    return Call("Revoke", pb.RevokeRequest(fingerprint=fingerprint, chains=chains, tokens=tokens), outcomes)


def report(prefix: Prefix, reasons: Sequence[str], bytes_read: int) -> Call[int]:
    request = pb.ReportRequest(
        fingerprint=prefix.fingerprint,
        chains=[link.chain for link in prefix.links],
        tokens=prefix.tokens,
        reasons=reasons,
        bytes_read=bytes_read,
    )
    return Call("Report", request, lambda answer: int(answer.dropped))


def renew(lease: str, lease_ms: int) -> Call[None]:
    return Call("Renew", pb.RenewRequest(lease=lease, lease_ms=lease_ms), lambda answer: None)


def release(lease: str) -> Call[bool]:
    return Call("Release", pb.ReleaseRequest(lease=lease), lambda answer: bool(answer.held))


def pin(fingerprint: bytes, chain: bytes, pinned: bool) -> Call[bool]:
    request = pb.PinRequest(fingerprint=fingerprint, chain=chain, pinned=pinned)
    return Call("Pin", request, lambda answer: bool(answer.found))


def stats() -> Call[pb.StatsResponse]:
    return Call("Stats", pb.StatsRequest(), lambda answer: answer)


def purge(tenant: str, model: str, deadline_s: float) -> Call[int]:
    request = pb.PurgeRequest(tenant=tenant, model=model)
    return Call("Purge", request, lambda answer: int(answer.blocks), deadline_s=deadline_s)


def outcomes(answer: pb.PutResponse | pb.ReserveResponse | pb.CommitResponse | pb.RevokeResponse) -> list[Put]:
    """What became of each block; one this client doesn't know counts as UNKNOWN."""
    return [_OUTCOMES.get(outcome, Put.UNKNOWN) for outcome in answer.outcomes]


def _place(place: pb.DataPlace) -> Place:
    return Place(place.namespace, place.redis_url, place.cluster)
