"""Settings of the kvstore service."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from services.kvstore.limits import Limits
from stagemesh.errors import ConfigError, InvalidInput
from stagemesh.kv.keys import MIN_SECRET_BYTES
from stagemesh.kv.names import escape
from stagemesh.kvdata.address import RedisAddress
from stagemesh.settings import ServiceSettings, setting

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class KvStoreSettings(ServiceSettings):
    """What the kvstore service can be told; every replica of a pool must be told the same of the pool."""

    stage: ClassVar[str] = "kvstore"

    port: int = setting(8051, "gRPC port; 0 picks a free one", minimum=0, maximum=65535)
    http_port: int = setting(8052, "port of /metrics, /livez and /readyz; 0 picks a free one", minimum=0, maximum=65535)
    redis_url: str = setting("redis://127.0.0.1:6379", "redis://, rediss:// or unix:// URL; of a cluster, any server's")
    redis_password_file: str = setting("", "file with the password, instead of one in the URL")
    redis_cluster: bool = setting(False, "whether the URL is of a Redis Cluster")
    redis_timeout_s: float = setting(2.0, "seconds that Redis may take to answer", minimum=0.01)
    redis_direct_url: str = setting("", "URL, without password, told to clients that may read and write values there")
    kv_namespace: str = setting("stagemesh", "name of the pool, the start of all its keys")
    kv_capacity_mib: int = setting(1024, "bytes of all values, MiB", minimum=1)
    kv_watermark: float = setting(0.95, "share of the capacity above which blocks are evicted", minimum=0.01, maximum=1)
    kv_step: float = setting(0.05, "share of the capacity that one eviction frees", minimum=0, maximum=1)
    kv_ttl_s: float = setting(0.0, "seconds until an unused block is dropped; 0 for never", minimum=0)
    kv_reserve_s: float = setting(30.0, "seconds that a put may take", minimum=0.05, maximum=3600)
    kv_max_lease_s: float = setting(600.0, "longest lease, seconds", minimum=0.05, maximum=86400)
    kv_quota_mib: int = setting(0, "bytes of one tenant, MiB; 0 for no quota", minimum=0)
    kv_quotas: tuple[str, ...] = setting((), "quotas of single tenants, as in acme=512,guest=64, MiB")
    kv_max_keys: int = setting(16384, "most blocks of one call", minimum=1, maximum=100_000)
    kv_max_block_mib: int = setting(64, "largest value of a block, MiB", minimum=1, maximum=511)
    kv_tenant_secret_file: str = setting("", "file with the secret of tenants' salts; puts are held to it")

    def limits(self) -> Limits:
        """The limits of the pool. Raises ConfigError."""
        try:
            return Limits(
                capacity=self.kv_capacity_mib * MIB,
                high=self.kv_watermark,
                step=self.kv_step,
                ttl_ms=round(self.kv_ttl_s * 1000),
                reserve_ms=round(self.kv_reserve_s * 1000),
                quota=self.kv_quota_mib * MIB,
                quotas=dict(_quota(text) for text in self.kv_quotas),
            )
        except ValueError as error:
            raise ConfigError(f"kv_watermark, kv_step: {error}") from error

    def namespace(self) -> str:
        """The name of the pool as it stands in keys. Raises ConfigError."""
        try:
            return escape(self.kv_namespace, "kv_namespace")
        except InvalidInput as error:
            raise ConfigError(str(error)) from error

    def address(self) -> RedisAddress:
        """Where Redis is. Raises ConfigError."""
        address = RedisAddress.parse(self.redis_url)
        password = _secret("redis_password_file", self.redis_password_file).decode()
        return replace(address, password=password) if password else address

    def tenant_secret(self) -> bytes:
        """The secret of the tenants' salts; empty where none is set. Raises ConfigError."""
        secret = _secret("kv_tenant_secret_file", self.kv_tenant_secret_file)
        if 0 < len(secret) < MIN_SECRET_BYTES or (self.kv_tenant_secret_file and not secret):
            raise ConfigError(f"kv_tenant_secret_file: expected at least {MIN_SECRET_BYTES} bytes, found {len(secret)}")
        return secret


def _secret(name: str, path: str) -> bytes:
    if not path:
        return b""
    try:
        return Path(path).expanduser().read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{name}: expected a file that can be read, found {error}") from error


def _quota(text: str) -> tuple[str, int]:
    tenant, _, number = text.rpartition("=")
    if not tenant or not number.isdecimal():
        raise ConfigError(f"kv_quotas: expected TENANT=MIB, found {text!r}")
    return tenant, int(number) * MIB
