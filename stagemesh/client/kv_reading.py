"""Blocks read into the caller's memory, each verified: from Redis itself, or through the service."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial

from stagemesh.client.calls import Call
from stagemesh.client.kv import KvClient
from stagemesh.client.kv_calls import Missed, Prefix, report
from stagemesh.errors import StagemeshError
from stagemesh.kv.block import HEADER_BYTES, BlockMismatch, BlockSpec, verify
from stagemesh.kv.keys import Link
from stagemesh.kvdata.blocks import get_blocks
from stagemesh.kvdata.failures import SERVER_REASONS, Failure, Reason
from stagemesh.kvdata.path import DataPath
from stagemesh.kvrpc.wire import read_get_response
from stagemesh.v1 import kvstore_pb2 as pb

Target = Callable[[int], memoryview]
Reads = Generator[tuple[int, memoryview | Missed], None, None]

_ELSEWHERE = SERVER_REASONS | {Reason.BUSY, Reason.STOPPED}


def read_blocks(client: KvClient, spec: BlockSpec, prefix: Prefix, target: Target) -> Reads:
    """Each block as it arrives, with its index: its payload, a view into the buffer that `target` gave, or why not.

    What the direct path can't reach is read through the service. A failure of the pool never raises.
    """
    path = client.path(prefix.place)
    if path is None or client.direct_breaker.admit() is not None:
        yield from _through_service(client, spec, prefix, range(len(prefix)), target)
        return
    again: list[int] = []
    with closing(_direct(client, path, spec, prefix, target, again)) as reads:
        yield from reads
    if again:
        yield from _through_service(client, spec, prefix.part(again), again, target)


def _direct(
    client: KvClient, path: DataPath, spec: BlockSpec, prefix: Prefix, target: Target, again: list[int]
) -> Reads:
    pairs = zip(prefix.links, prefix.tokens, strict=True)
    wanted = [(prefix.place.key(spec.fingerprint, link.chain, token), link) for link, token in pairs]
    missed: dict[int, str] = {}
    bytes_read = 0
    worst: Failure | None = None
    try:
        with closing(get_blocks(path, spec, wanted, target)) as reads:
            for index, read in reads:
                if isinstance(read, memoryview):
                    bytes_read += spec.value_size
                    yield index, read
                elif isinstance(read, Failure) and read.reason in _ELSEWHERE:
                    worst = read
                    again.append(index)
                else:
                    missed[index] = read.reason
                    yield index, Missed(read.reason, read.detail)
    finally:
        client.direct_breaker.record(worst)
        _report(client, prefix, missed, bytes_read)


def _through_service(
    client: KvClient, spec: BlockSpec, prefix: Prefix, indices: Sequence[int], target: Target
) -> Reads:
    left = dict(enumerate(indices))
    missed: dict[int, str] = {}
    try:
        with closing(client.stream(Call("Get", prefix.request(), bytes))) as answers:
            for data in answers:
                at, read = read_get_response(data)
                index = left.pop(at)
                outcome = _copied(read, spec, prefix.links[at], partial(target, index))
                if isinstance(outcome, Missed) and isinstance(read, memoryview):
                    missed[at] = outcome.reason
                yield index, outcome
    except KeyError as error:
        yield from _all_missed(left, Reason.PROTOCOL, f"expected each block once, found block {error} again")
    except StagemeshError as error:
        yield from _all_missed(left, error.reason.lower(), str(error))
    _report(client, prefix, missed, 0)


def _copied(
    read: memoryview | pb.Miss, spec: BlockSpec, link: Link, target: Callable[[], memoryview]
) -> memoryview | Missed:
    if not isinstance(read, memoryview):
        return Missed(read.reason, read.detail)
    try:
        verify(read, spec, link)
    except BlockMismatch as error:
        return Missed(error.mismatch, str(error))
    buffer = target()[: len(read)]
    buffer[:] = read
    return buffer[HEADER_BYTES:]


def _all_missed(left: Mapping[int, int], reason: str, detail: str) -> Reads:
    for index in left.values():
        yield index, Missed(reason, detail)


def _report(client: KvClient, prefix: Prefix, missed: Mapping[int, str], bytes_read: int) -> None:
    bytes_read = client.unreported(bytes_read, flush=bool(missed))
    if not missed and not bytes_read:
        return
    # What is lost of it is a figure; a broken block is found again by the next reader.
    with suppress(StagemeshError):
        client.run(report(prefix.part(list(missed)), list(missed.values()), bytes_read))
