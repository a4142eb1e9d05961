"""The control connections to Redis: scripts and short commands, by redis-py, its errors made our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from stagemesh.errors import Overloaded, StagemeshError, Unavailable
from stagemesh.kvdata.address import RedisAddress

CONNECTIONS = 32

# Any: redis-py's two classes have the same commands, but no class in common.
Client = Any


class RedisDown(Unavailable):
    """Redis can't be used now; another replica of the service would find the same."""

    default_reason: ClassVar[str] = "KV_REDIS_UNREACHABLE"
    elsewhere = False


class IndexBroken(StagemeshError):
    """A script met something it can't have written: someone else writes to the index."""

    code: ClassVar[str] = "UNAVAILABLE"
    default_reason: ClassVar[str] = "KV_INDEX_BROKEN"


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "KV_REDIS_DENIED"),
    (exceptions.AuthorizationError, "KV_REDIS_DENIED"),
    (exceptions.NoPermissionError, "KV_REDIS_DENIED"),
    (exceptions.BusyLoadingError, "KV_REDIS_NOT_READY"),
    (exceptions.ClusterDownError, "KV_REDIS_NOT_READY"),
    (exceptions.MasterDownError, "KV_REDIS_NOT_READY"),
    (exceptions.ReadOnlyError, "KV_REDIS_NOT_READY"),
    (exceptions.TryAgainError, "KV_REDIS_NOT_READY"),
    (exceptions.SlotNotCoveredError, "KV_REDIS_NOT_READY"),
    (exceptions.TimeoutError, "KV_REDIS_TIMEOUT"),
    (exceptions.ConnectionError, "KV_REDIS_UNREACHABLE"),
    (exceptions.RedisClusterException, "KV_REDIS_UNREACHABLE"),
)
_WORDS = {"BUSY": "KV_REDIS_NOT_READY", "NOPERM": "KV_REDIS_DENIED", "NOAUTH": "KV_REDIS_DENIED"}


def connect(address: RedisAddress, timeout_s: float, *, cluster: bool) -> Client:
    """A client of the server, or of the cluster it belongs to; nothing is connected yet."""
    options: dict[str, Any] = {
        "username": address.username or None,
        "password": address.password or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # Once: an idle connection may have died with a server that is back by now.
        "retry": Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
    }
    if cluster:
        options |= {"host": address.host, "port": address.port, "max_connections": 4 * CONNECTIONS}
        return RedisCluster(**options, ssl=address.tls is not None, **_tls(address))
    options |= {"db": address.db, "max_connections": CONNECTIONS, "timeout": timeout_s}
    if address.path:
        options |= {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        kind = SSLConnection if address.tls else Connection
        options |= {"connection_class": kind, "host": address.host, "port": address.port, **_tls(address)}
    return Redis.from_pool(BlockingConnectionPool(**options))


def _tls(address: RedisAddress) -> dict[str, Any]:
    tls = address.tls
    if tls is None:
        return {}
    return {
        "ssl_ca_certs": tls.ca or None,
        "ssl_certfile": tls.certificate or None,
        "ssl_keyfile": tls.key or None,
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.verify and tls.check_hostname,
    }


@contextmanager
def redis_errors() -> Iterator[None]:
    """Errors of redis-py as RedisDown, Overloaded for a full Redis, and IndexBroken for a script that stumbled."""
    try:
        yield
    except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
        raise typed(error) from error


def typed(error: Exception) -> StagemeshError:
    """What an error of redis-py means."""
    text = str(error)
    if isinstance(error, exceptions.OutOfMemoryError) or "OOM " in text:
        return Overloaded(f"Redis is full: {text}", reason="KV_REDIS_FULL", retry_after_s=1.0)
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return RedisDown(f"Redis: {text}", reason=reason)
    word = text.partition(" ")[0]
    # Redis names the script wherever one stumbles.
    stumbled = word not in _WORDS and ("script" in text or word == "WRONGTYPE")
    if stumbled and isinstance(error, exceptions.ResponseError):
        return IndexBroken(f"the index: {text}")
    return RedisDown(f"Redis: {type(error).__name__}: {text}", reason=_WORDS.get(word, "KV_REDIS_REFUSED"))
