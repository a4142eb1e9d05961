"""The addresses behind a gRPC target, for what must reach every replica instead of any one."""

from __future__ import annotations

import asyncio
import socket

from stagemesh.errors import Unavailable, Unsupported

_LISTS = ("ipv4", "ipv6")
_SINGLE = ("unix", "unix-abstract")
_DEFAULT_PORT = "443"


async def each_address(target: str) -> list[str]:
    """The gRPC targets, of one address each, that `target` stands for at this moment.

    Raises Unavailable for a name that can't be resolved, Unsupported for a target whose addresses only gRPC knows:
    one with a name server of its own, or of another scheme than dns, ipv4, ipv6 and unix.
    """
    scheme, colon, rest = target.partition(":")
    if colon and scheme in _LISTS:
        return [f"{scheme}:{address.strip()}" for address in rest.removeprefix("///").split(",")]
    if colon and scheme in _SINGLE:
        return [target]
    if colon and scheme == "dns":
        return await _resolve(_without_authority(rest, target), target)
    if "://" in target:
        raise Unsupported(f"target '{target}': expected dns:, ipv4:, ipv6: or unix: to reach each replica")
    return await _resolve(target, target)


def _without_authority(rest: str, target: str) -> str:
    if not rest.startswith("//"):
        return rest
    authority, _, name = rest[2:].partition("/")
    if authority:
        raise Unsupported(f"target '{target}': expected no name server in it to reach each replica")
    return name


async def _resolve(name: str, target: str) -> list[str]:
    host, port = _host_and_port(name)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"target '{target}' can't be resolved: {error}") from error
    texts = [_text(family, address) for family, _, _, _, address in found]
    return list(dict.fromkeys(texts))


def _host_and_port(name: str) -> tuple[str, str]:
    host, colon, port = name.rpartition(":")
    if not colon or name.endswith("]") or (":" in host.strip("[]") and not host.startswith("[")):
        return name.strip("[]"), _DEFAULT_PORT
    return host.strip("[]"), port


def _text(family: int, address: tuple[object, ...]) -> str:
    host, port = address[:2]
    return f"ipv6:[{host}]:{port}" if family == socket.AF_INET6 else f"ipv4:{host}:{port}"
