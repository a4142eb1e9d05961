"""vectors.json: our code gives it, in any process, and so does a second reading of docs/kv-format.md."""

from __future__ import annotations

import hmac
import json
import struct
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import xxhash

from stagemesh.kv.names import unescape
from tests.kv.cases import VECTORS, vectors

ROOT = Path(__file__).parents[2]
PUBLISHED: dict[str, Any] = json.loads(VECTORS.read_text())
BLOCKS = pytest.mark.parametrize("block", PUBLISHED["blocks"].values(), ids=PUBLISHED["blocks"])


def text(value: str) -> bytes:
    return struct.pack("<I", len(value.encode())) + value.encode()


def setting(value: Any) -> bytes:
    if isinstance(value, str):
        return b"s" + text(value)
    if isinstance(value, list):
        return b"l" + struct.pack(f"<I{len(value)}d", len(value), *value)
    return b"n" + struct.pack("<d", value)


def settings(values: dict[str, Any]) -> bytes:
    entries = sorted(values.items(), key=lambda item: item[0].encode())
    return struct.pack("<I", len(entries)) + b"".join(text(name) + setting(value) for name, value in entries)


def test_our_code_gives_the_published_vectors() -> None:
    assert json.loads(json.dumps(vectors())) == PUBLISHED


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_other_processes_give_them_too(seed: str) -> None:
    code = "import json; from tests.kv.cases import vectors; print(json.dumps(vectors()))"
    command = [sys.executable, "-c", code]
    environment = {"PYTHONHASHSEED": seed, "PATH": ""}
    end = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(end.stdout) == PUBLISHED


@BLOCKS
def test_the_documented_hashes(block: dict[str, Any]) -> None:
    identity = block["identity"]
    size = identity.get("block_size", 16)
    counts = (identity["layers"], identity["kv_heads"], identity["head_dim"], size, identity.get("layout", 1))
    canonical = b"stagemesh.kv.fingerprint.v1\0" + bytes.fromhex(identity["weights"]) + struct.pack("<5I", *counts)
    canonical += text(identity["dtype"]) + text(identity.get("codec", "none"))
    canonical += settings(identity["rope"]) + settings(identity.get("extra", {}))
    assert sha256(canonical).hexdigest() == block["fingerprint"]

    secret, tenant = bytes.fromhex(PUBLISHED["secret"]), block["tenant"].encode()
    assert hmac.new(secret, b"stagemesh.kv.tenant.v1\0" + tenant, sha256).hexdigest() == block["salt"]
    seed = b"stagemesh.kv.chain.v1\0" + bytes.fromhex(block["fingerprint"] + block["salt"])
    parent = sha256(seed).digest()
    assert parent.hex() == block["root"]
    assert len(block["links"]) == len(PUBLISHED["tokens"]) // size
    for number, link in enumerate(block["links"]):
        tokens = struct.pack(f"<{size}I", *PUBLISHED["tokens"][number * size : (number + 1) * size])
        chain = sha256(parent + tokens)
        assert link == {"chain": chain.hexdigest(), "parent": parent.hex(), "tokens": sha256(tokens).hexdigest()}
        parent = chain.digest()
    assert block["key"] == f"pool%2F1/{block['fingerprint']}/{block['links'][0]['chain']}"


@BLOCKS
def test_the_documented_header(block: dict[str, Any]) -> None:
    header, payload = bytes.fromhex(block["header"]), bytes.fromhex(block["payload"])
    identity, link = block["identity"], block["links"][0]
    tokens = identity.get("block_size", 16)
    expected = b"stagekv\0" + struct.pack("<HHIQ", 1, 256, tokens, len(payload))
    expected += identity.get("codec", "none").encode().ljust(12, b"\0") + identity["dtype"].encode().ljust(12, b"\0")
    expected += struct.pack("<6I", identity["layers"], 2, identity["kv_heads"], tokens, identity["head_dim"], 1)
    expected += bytes.fromhex(block["fingerprint"] + link["chain"] + link["parent"] + link["tokens"]) + bytes(40)
    assert len(expected) == 240
    assert header == expected + xxhash.xxh3_128(expected + payload).digest()


def test_the_documented_payload_of_the_codec_none() -> None:
    block = PUBLISHED["blocks"]["plain"]
    values = [(37 * index % 257 - 128) / 16 for index in range(2 * 2 * 1 * 16 * 4)]
    assert bytes.fromhex(block["payload"]) == struct.pack(f"<{len(values)}f", *values)


def test_the_published_names() -> None:
    assert [unescape(escaped) for escaped in PUBLISHED["names"].values()] == list(PUBLISHED["names"])
