"""Server reflection over the protocol's own descriptor pool."""

from __future__ import annotations

from typing import Any

import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

SERVICE_NAME = str(reflection.SERVICE_NAME)


class _MethodPool:
    """A DescriptorPool that finds methods as well: protobuf's finds only what stands around them."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file


def enable_reflection(server: grpc.aio.Server, services: list[str], pool: DescriptorPool) -> None:
    """Let clients list and describe `services`, whose descriptors are in `pool`, and health and reflection."""
    for module in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    names = (*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, SERVICE_NAME)
    reflection.enable_server_reflection(names, server, _MethodPool(pool))
