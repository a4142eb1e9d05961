"""The service put together: settings to connections, pool, upkeep and server."""

from __future__ import annotations

import logging

from google.protobuf import descriptor_pool

from services.kvstore.index import Index
from services.kvstore.metrics import KvMetrics
from services.kvstore.pool import Pool
from services.kvstore.redis_client import connect
from services.kvstore.servicer import KvStoreServicer
from services.kvstore.settings import KvStoreSettings
from services.kvstore.upkeep import Upkeep
from services.kvstore.values import Values
from stagemesh.kvdata.connection import Limits as PathLimits
from stagemesh.kvdata.path import DataPath
from stagemesh.kvrpc.service import kvstore_handler
from stagemesh.rpc.context import Identity
from stagemesh.rpc.process import serve
from stagemesh.rpc.server import Server
from stagemesh.telemetry import Metrics

THREADS = 4
CONNECTIONS = 64
"""To Redis, for values: a call has one of them to its end, however slow its caller."""

log = logging.getLogger(__name__)


async def main(identity: Identity, settings: KvStoreSettings) -> None:
    """Serve until a signal. Raises ConfigError."""
    address, namespace, limits = settings.address(), settings.namespace(), settings.limits()
    timeout_s = settings.redis_timeout_s
    client = connect(address, timeout_s, cluster=settings.redis_cluster)
    path_limits = PathLimits(lanes=1, connections=CONNECTIONS, timeout_s=timeout_s, connect_timeout_s=timeout_s)
    to = DataPath.to_cluster([address], path_limits) if settings.redis_cluster else None
    values = Values(to or DataPath.to_server(address, path_limits), client, THREADS)
    metrics = Metrics(identity.stage)
    pool = Pool(namespace, Index(client, namespace, limits), values, limits, KvMetrics(metrics.registry))
    servicer = KvStoreServicer(pool, settings)
    handler = kvstore_handler(servicer.behaviours())
    server = Server(identity, settings, metrics, [handler], descriptor_pool.Default())

    async def close() -> None:
        await values.aclose()
        await client.aclose()

    async def watch() -> None:
        log.info("the pool '%s' is in Redis at %s", settings.kv_namespace, address)
        await Upkeep(pool, client, namespace, server.set_ready).run()

    await serve(server, watch, [], close)
