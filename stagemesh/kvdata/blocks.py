"""Verified blocks over the data path: a value is checked where it was read to, while the next ones travel."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from stagemesh.kv.block import BlockMismatch, BlockSpec, Mismatch, pack_header, verify
from stagemesh.kv.keys import Link
from stagemesh.kvdata.failures import Failure
from stagemesh.kvdata.path import DataPath, Target, Written
from stagemesh.kvdata.wire import Buffer


@dataclass(frozen=True, slots=True)
class Refused:
    """A value that is not the block: which part of it differs, and how."""

    reason: Mismatch
    detail: str


def get_blocks(
    path: DataPath, spec: BlockSpec, wanted: Sequence[tuple[str, Link]], target: Target
) -> Generator[tuple[int, memoryview | Failure | Refused], None, None]:
    """Each block of a Redis key and a link as it arrives, with its index: its payload, or why there is none.

    `target` gives a buffer of at least `spec.value_size` bytes for an index; the payload is a view into it. Buffers
    and the iterator are used as DataPath.get uses them.
    """
    size, keys = spec.value_size, [key.encode() for key, _ in wanted]
    with closing(path.get(keys, size, lambda index: target(index)[:size])) as reads:
        for index, read in reads:
            yield index, read if isinstance(read, Failure) else _verified(read, spec, wanted[index][1])


def put_blocks(
    path: DataPath, spec: BlockSpec, blocks: Sequence[tuple[str, Link, Buffer]], expire_ms: int = 0
) -> list[Written]:
    """Write each block, a Redis key with its link and payload, by one SET; None where that is done.

    Raises InvalidInput for a payload of a wrong size.
    """
    values = [(key.encode(), (pack_header(spec, link, payload), payload)) for key, link, payload in blocks]
    return path.put(values, expire_ms)


def _verified(value: memoryview, spec: BlockSpec, link: Link) -> memoryview | Refused:
    try:
        return verify(value, spec, link)
    except BlockMismatch as error:
        return Refused(error.mismatch, str(error))
