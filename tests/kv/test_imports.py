"""Keys and blocks are for everybody: they load neither gRPC nor Redis, and keys not even a hash of another package."""

from __future__ import annotations

import pytest

from tests.test_isolation import python


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("stagemesh.kv.keys", {"grpc", "redis", "torch", "xxhash", "google.protobuf"}),
        ("stagemesh.kv.block", {"grpc", "redis", "torch"}),
        ("stagemesh.kvdata.aio", {"grpc", "redis", "torch", "xxhash"}),
        ("stagemesh.kvdata.blocks", {"grpc", "redis", "torch"}),
    ],
)
def test_modules_load_only_what_they_need(module: str, without: set[str]) -> None:
    assert not without & set(python(f"import sys, {module}\nprint(*sorted(sys.modules))").split())
