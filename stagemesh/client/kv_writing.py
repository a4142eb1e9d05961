"""Blocks put into the pool: values straight to Redis between a reservation and a commit, or through the service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from stagemesh.client.calls import Call
from stagemesh.client.kv import KvClient
from stagemesh.client.kv_calls import Put, Reserved, commit, outcomes, reserve, revoke
from stagemesh.errors import StagemeshError
from stagemesh.kv.block import BlockSpec, pack_header
from stagemesh.kv.keys import Link
from stagemesh.kvdata.blocks import put_blocks
from stagemesh.kvdata.path import DataPath
from stagemesh.kvdata.wire import Buffer
from stagemesh.kvrpc.wire import plan_request, value_request
from stagemesh.v1 import kvstore_pb2 as pb

Blocks = Sequence[tuple[Link, Buffer]]


def write_blocks(client: KvClient, spec: BlockSpec, plan: pb.PutPlan, blocks: Blocks) -> list[Put]:
    """Put blocks by `plan`; what became of each. Raises stagemesh errors where nothing could be tried."""
    if not client.is_direct or client.direct_breaker.admit() is not None:
        return _through_service(client, spec, plan, blocks)
    reserved = client.run(reserve(plan))
    path = client.path(reserved.place)
    if path is None:
        _give_up(client, plan, reserved)
        return _through_service(client, spec, plan, blocks)
    try:
        return _direct(client, path, spec, plan, blocks, reserved)
    except BaseException:
        _give_up(client, plan, reserved)
        raise


def _direct(
    client: KvClient, path: DataPath, spec: BlockSpec, plan: pb.PutPlan, blocks: Blocks, reserved: Reserved
) -> list[Put]:
    result = list(reserved.outcomes)
    open_ = [index for index, outcome in enumerate(result) if outcome is Put.RESERVED]
    keys = [reserved.place.key(plan.fingerprint, blocks[index][0].chain, reserved.tokens[index]) for index in open_]
    values = [(key, *blocks[index]) for key, index in zip(keys, open_, strict=True)]
    failures = put_blocks(path, spec, values, reserved.expire_ms)
    client.direct_breaker.record(next((failure for failure in failures if failure), None))
    # A value that isn't there fails its commit: the service looks.
    chains, tokens = [plan.chains[index] for index in open_], [reserved.tokens[index] for index in open_]
    settled = client.run(commit(plan.fingerprint, chains, tokens, [spec.value_size] * len(open_))) if open_ else []
    for index, outcome in zip(open_, settled, strict=True):
        result[index] = outcome
    return result


def _through_service(client: KvClient, spec: BlockSpec, plan: pb.PutPlan, blocks: Blocks) -> list[Put]:
    def requests() -> Iterator[bytes]:
        yield plan_request(plan)
        for link, payload in blocks:
            yield value_request(pack_header(spec, link, payload), payload)

    return client.upload(Call("Put", requests(), outcomes, plan.model))


def _give_up(client: KvClient, plan: pb.PutPlan, reserved: Reserved) -> None:
    pairs = zip(plan.chains, reserved.tokens, reserved.outcomes, strict=True)
    open_ = [(chain, token) for chain, token, outcome in pairs if outcome is Put.RESERVED]
    # Where the service can't be told, the reservations end by themselves.
    with suppress(StagemeshError):
        if open_:
            client.run(revoke(plan.fingerprint, [chain for chain, _ in open_], [token for _, token in open_]))
