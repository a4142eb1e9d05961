"""Each address behind a target, in the forms that gRPC takes."""

from __future__ import annotations

import pytest

from stagemesh.errors import Unavailable, Unsupported
from stagemesh.rpc.addresses import each_address


@pytest.mark.parametrize(
    ("target", "addresses"),
    [
        ("ipv4:10.0.0.1:80", ["ipv4:10.0.0.1:80"]),
        ("ipv4:10.0.0.1:80,10.0.0.2:81", ["ipv4:10.0.0.1:80", "ipv4:10.0.0.2:81"]),
        ("ipv6:[::1]:80,[fe80::2]:81", ["ipv6:[::1]:80", "ipv6:[fe80::2]:81"]),
        ("unix:///run/infer.sock", ["unix:///run/infer.sock"]),
        ("127.0.0.1:8001", ["ipv4:127.0.0.1:8001"]),
        ("127.0.0.1", ["ipv4:127.0.0.1:443"]),
        ("[::1]:8001", ["ipv6:[::1]:8001"]),
        ("::1", ["ipv6:[::1]:443"]),
        ("dns:127.0.0.1:8001", ["ipv4:127.0.0.1:8001"]),
        ("dns:///127.0.0.1:8001", ["ipv4:127.0.0.1:8001"]),
        ("dns:///[::1]:8001", ["ipv6:[::1]:8001"]),
    ],
)
async def test_addresses(target: str, addresses: list[str]) -> None:
    assert await each_address(target) == addresses


async def test_a_name_stands_for_all_its_addresses() -> None:
    assert "ipv4:127.0.0.1:8001" in await each_address("dns:///localhost:8001")


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("dns:///no.such.name.invalid:1", Unavailable, "target 'dns:///no.such.name.invalid:1' can't be resolved"),
        ("dns://10.0.0.53/infer:1", Unsupported, "target 'dns://10.0.0.53/infer:1': expected no name server"),
        ("xds:///infer", Unsupported, "target 'xds:///infer': expected dns:, ipv4:, ipv6: or unix:"),
    ],
)
async def test_targets_that_cannot_be_taken_apart(target: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        await each_address(target)
