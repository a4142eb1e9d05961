"""The Lua scripts: sent to Redis once, then called by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from redis.exceptions import NoScriptError

_FOLDER = Path(__file__).parent / "lua"
_PARTS = ("store", "policy", "life")  # what every script starts with

Argument = str | bytes | int


class Redis(Protocol):
    """What is used of `redis.asyncio.Redis` and `redis.asyncio.RedisCluster`, both with `decode_responses` off."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Argument) -> Awaitable[Any]:
        """Run a script Redis knows."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Argument) -> Awaitable[Any]:
        """Run a script and let Redis keep it."""


@cache
def source(name: str) -> str:
    """The whole text of script `name`."""
    return "\n".join((_FOLDER / f"{part}.lua").read_text() for part in (*_PARTS, name))


@cache
def _digest(name: str) -> str:
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


async def call(redis: Redis, name: str, prefix: str, *arguments: Argument) -> object:
    """Run script `name` on the keys that start with `prefix`; Redis may have been restarted or flushed before."""
    try:
        return await redis.evalsha(_digest(name), 1, prefix, *arguments)
    except NoScriptError:
        return await redis.eval(source(name), 1, prefix, *arguments)
