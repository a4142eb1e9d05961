"""Wrong requests get a typed error that names what was expected and found, and change nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from stagemesh.client.kv import KvClient
from stagemesh.client.kv_blocks import KvBlocks
from stagemesh.client.kv_calls import Put
from stagemesh.errors import RemoteFailure
from stagemesh.kv.block import BlockSpec, pack_header
from stagemesh.kv.keys import Identity
from stagemesh.kvrpc.wire import plan_request, value_request
from stagemesh.v1 import kvstore_pb2 as pb
from tests.kvstore_service.backends import (
    SECRET,
    SPEC,
    Backend,
    backend,
    chain,
    kvstore,
    read,
    settled,
    target,
    wait_until,
)
from tests.mesh.processes import ServiceProcess

pytestmark = pytest.mark.xdist_group("kvstore_bad")

CHAIN = chain(3)
F, C = SPEC.fingerprint, [link.chain for link in CHAIN.links]
SIZE = SPEC.value_size
TOKENS = ["0" * 16] * 3
PLAN = pb.PutPlan(fingerprint=F, chains=C, sizes=[SIZE] * 3)


def value(index: int, payload: bytes | None = None) -> bytes:
    link, own = CHAIN.blocks[index]
    return value_request(pack_header(SPEC, link, own), own if payload is None else payload)


def plan(**changes: object) -> pb.PutPlan:
    changed = pb.PutPlan()
    changed.CopyFrom(PLAN)
    for name, new in changes.items():
        changed.ClearField(name)
        getattr(changed, name).extend(new) if isinstance(new, list) else setattr(changed, name, new)
    return changed


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with backend("unix", Path()) as made:
        yield made


@pytest.fixture(scope="module")
def service(alone: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    secret = tmp_path_factory.mktemp("secret") / "secret"
    secret.write_bytes(SECRET)
    settings = {"kv_max_keys": 1000, "kv_max_block_mib": 1, "kv_quotas": "small=1", "kv_tenant_secret_file": secret}
    with kvstore(alone, **settings) as (process,):
        yield process


@pytest.fixture
def client(alone: Backend, service: ServiceProcess) -> Iterator[KvClient]:
    alone.flush()
    with KvClient(target([service]), max_message_mib=300) as made:
        yield made


UNARY = {
    "short fingerprint": ("Match", pb.MatchRequest(fingerprint=F[:31], chains=C), "fingerprint: expected 32 bytes"),
    "no fingerprint": ("Match", pb.MatchRequest(chains=C), "fingerprint: expected 32 bytes, found 0"),
    "long chain": ("Match", pb.MatchRequest(fingerprint=F, chains=[b"x" * 33]), "chains: expected 32 bytes, found 33"),
    "a million keys": ("Match", pb.MatchRequest(fingerprint=F, chains=[C[0]] * 1_000_000), "at most 1000 in one call"),
    "long lease": ("Match", pb.MatchRequest(fingerprint=F, lease_ms=2**32 - 1), "lease_ms: expected at most 600000"),
    "no lease": ("Renew", pb.RenewRequest(lease="", lease_ms=5), "lease: expected one that Match gave"),
    "strange lease": ("Release", pb.ReleaseRequest(lease="{x}"), "lease: expected one that Match gave, found '{x}'"),
    "unknown tokens": ("Commit", pb.CommitRequest(fingerprint=F, chains=C, tokens=["../x"] * 3), "16 hex digits"),
    "few tokens": ("Revoke", pb.RevokeRequest(fingerprint=F, chains=C, tokens=TOKENS[:2]), "one for each of 3 blocks"),
    "no sizes": ("Commit", pb.CommitRequest(fingerprint=F, chains=C, tokens=TOKENS), "sizes: expected one for each"),
    "nothing to purge": ("Purge", pb.PurgeRequest(), "expected a tenant or a model"),
    "no block": ("Reserve", pb.ReserveRequest(plan=plan(chains=[], sizes=[])), "at least one block"),
    "twice": ("Reserve", pb.ReserveRequest(plan=plan(chains=[C[0]] * 3)), "each block once"),
    "own parent": ("Reserve", pb.ReserveRequest(plan=plan(parent=C[1])), "each block once"),
    "oversized": ("Reserve", pb.ReserveRequest(plan=plan(sizes=[SIZE, 2**63, 1])), "256 to 1048576 bytes, found 92233"),
    "no header": ("Reserve", pb.ReserveRequest(plan=plan(sizes=[SIZE, 255, SIZE])), "sizes: expected 256"),
    "long tenant": ("Reserve", pb.ReserveRequest(plan=plan(tenant="ü" * 128)), "tenant: expected 1 to 255 bytes"),
    "long model": ("Reserve", pb.ReserveRequest(plan=plan(model="x" * 256)), "model: expected 1 to 255 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNARY)
def test_a_wrong_request_is_refused(client: KvClient, case: str) -> None:
    method, request, text = UNARY[case]
    _refused(lambda: client._methods[method](request, timeout=30), text)


def test_a_wrong_get_is_refused(client: KvClient) -> None:
    for request, text in (
        (pb.GetRequest(fingerprint=F, chains=C, tokens=["a/b"] * 3, sizes=[SIZE] * 3), "16 hex digits"),
        (pb.GetRequest(fingerprint=F, chains=C, tokens=TOKENS, sizes=[2**40] * 3), "sizes: expected"),
    ):
        _refused(lambda request=request: list(client._methods["Get"](request, timeout=5)), text)


def test_a_get_of_blocks_that_never_were_is_misses(client: KvClient) -> None:
    request = pb.GetRequest(fingerprint=F, chains=C, tokens=TOKENS, sizes=[SIZE] * 3)
    answers = [pb.GetResponse.FromString(data) for data in client._methods["Get"](request, timeout=5)]
    assert sorted((answer.index, answer.miss.reason) for answer in answers) == [(i, "missing") for i in range(3)]


OTHER_SPEC = BlockSpec.of(
    Identity(weights=bytes(32), dtype="FP16", layers=4, kv_heads=2, head_dim=32, rope={"theta": 10000.0})
)
FOREIGN = value_request(pack_header(OTHER_SPEC, CHAIN.links[0], CHAIN.payloads[0]), CHAIN.payloads[0])
BAD_PUTS = {
    "nothing": ([], "expected a plan, found the end"),
    "junk": ([b"\xff\xff\xff"], "malformed protobuf message"),
    "empty message": ([b""], "expected a plan or a value"),
    "no plan": ([value(0)], "expected one plan, then values"),
    "two plans": ([plan_request(PLAN), plan_request(PLAN)], "expected one plan, then values"),
    "too few": ([plan_request(PLAN), value(0), value(1)], "expected 3 values, as planned, found 2"),
    "too many": ([plan_request(PLAN), *map(value, (0, 1, 2, 2))], "expected 3 values, as planned, found one more"),
    "wrong order": ([plan_request(PLAN), value(1)], "value 0: block chain: expected"),
    "wrong size": ([plan_request(PLAN), value_request(b"", bytes(SIZE - 1))], f"expected {SIZE} bytes, as planned"),
    "wrong bytes": ([plan_request(PLAN), value(0, b"x" * SPEC.payload_size)], "value 0: block checksum"),
    "no block": ([plan_request(PLAN), value_request(b"", bytes(SIZE))], "value 0: block magic"),
    "fingerprint": ([plan_request(PLAN), FOREIGN], "value 0: block fingerprint"),
    "wrong parent": ([plan_request(plan(chains=[C[1]], sizes=[SIZE])), value(1)], "value 0: expected the parent"),
    "other tenant": ([plan_request(plan(tenant="thief")), value(0)], "value 0: expected the parent"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_PUTS)
def test_a_wrong_put_is_refused_and_leaves_nothing(client: KvClient, alone: Backend, case: str) -> None:
    parts, text = BAD_PUTS[case]
    _refused(lambda: client._methods["Put"](iter(parts), timeout=5), text)
    wait_until(lambda: settled(client, alone))
    assert client.stats().bytes == 0
    assert KvBlocks(client, SPEC).put(CHAIN.blocks) == [Put.COMMITTED] * 3


def test_random_bytes_break_nothing(client: KvClient, alone: Backend) -> None:
    for length in (1, 7, 64, 1000):
        for method in ("Match", "Commit", "Reserve", "Report", "Purge"):
            call = client._channel.unary_unary(f"/stagemesh.v1.KVStoreService/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\x0a\xff" + os.urandom(length), timeout=5)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert settled(client, alone)


def test_a_tenant_over_its_quota_loses_its_own_blocks_only(client: KvClient, alone: Backend) -> None:
    others, small = KvBlocks(client, SPEC), KvBlocks(client, SPEC, tenant="small")
    kept = chain(10)
    others.put(kept.blocks)
    for seed in range(10):
        assert small.put(chain(20, seed=seed, tenant="small").blocks)[-1] is Put.COMMITTED
    stats = client.stats()
    assert 0 < stats.tenant_bytes["small"] <= 1 << 20
    assert stats.removed["quota"] > 0
    assert read(others, kept.links) == list(kept.payloads)
    lease = small.match([], lease_ms=60_000).lease
    outcomes = small.put(chain(80, seed=99, tenant="small").blocks, lease=lease)
    assert outcomes[-1] in (Put.QUOTA, Put.NO_PARENT)
    assert Put.QUOTA in outcomes
    assert client.stats().tenant_bytes["small"] <= 1 << 20


def test_a_lease_on_everything_refuses_puts(client: KvClient) -> None:
    blocks, lease = KvBlocks(client, SPEC), ""
    lease = blocks.match([], lease_ms=60_000).lease
    outcomes: list[Put] = []
    for seed in range(20):
        outcomes += blocks.put(chain(30, seed=seed).blocks, lease=lease)
    assert Put.NO_CAPACITY in outcomes
    assert client.stats().bytes <= 8 << 20
    assert client.release(lease)
    assert blocks.put(chain(2, seed=1000).blocks) == [Put.COMMITTED] * 2


@pytest.mark.parametrize(
    ("setting", "text", "expected"),
    [
        ("redis_url", "http://x", "Redis URL: expected"),
        ("redis_password_file", "/nowhere", "redis_password_file: expected a file"),
        ("kv_quotas", "acme", "kv_quotas: expected TENANT=MIB, found 'acme'"),
        ("kv_namespace", "", "kv_namespace: expected 1 to 255 bytes"),
        ("kv_step", "0.99", "expected 0 <= step <= high"),
        ("kv_tenant_secret_file", "/dev/null", "kv_tenant_secret_file: expected at least 16 bytes, found 0"),
    ],
)
def test_a_wrong_setting_ends_the_process(setting: str, text: str, expected: str) -> None:
    process = ServiceProcess("kvstore", **{setting: text})
    try:
        assert process.process.wait(20) == 2
        assert expected in process.log()
        assert "Traceback" not in process.log()
    finally:
        process.close()


def _refused(call: Callable[[], object], text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert text in caught.value.details()
    assert caught.value.details().startswith("kvstore@")


def test_errors_are_typed_for_clients(client: KvClient) -> None:
    with pytest.raises(RemoteFailure) as caught:
        KvBlocks(client, SPEC).match(CHAIN.links * 400)
    assert (caught.value.status, caught.value.reason) == ("INVALID_ARGUMENT", "TOO_MANY_KEYS")
