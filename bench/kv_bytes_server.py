"""The reference of the pool's gRPC path: bare grpcio handlers that read each value with the same direct client.

`python -m bench.kv_bytes_server PORT REDIS_SOCKET`. A request is Redis keys, one a line, after the size of a value;
`/bench/Get` streams the values, each read when the one before is sent, `/bench/GetAhead` with the next ones on their
way from Redis meanwhile; `/bench/Put` takes values and sets them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.path import DataPath
from stagemesh.rpc.channel import MAX_MESSAGE_BYTES


class Handlers:
    """Nothing but the bytes: no check, no index, no lease."""

    def __init__(self, path: DataPath) -> None:
        self._path = path
        self._scratch = threading.local()

    def get(self, request: bytes, context: object) -> Iterator[bytes]:
        """One value after the other, each copied once."""
        size, *keys = request.split(b"\n")
        buffer = self._buffer(int(size))
        for key in keys:
            (value,) = self._path.get_all([(key, buffer)])
            if not isinstance(value, memoryview):
                raise RuntimeError(f"a value is missing: {value}")
            yield bytes(value)

    def get_ahead(self, request: bytes, context: object) -> Iterator[bytes]:
        """All values, pipelined, each copied once."""
        size, *keys = request.split(b"\n")
        buffer = self._buffer(int(size))
        for _, value in self._path.get(keys, int(size), lambda index: buffer):
            if not isinstance(value, memoryview):
                raise RuntimeError(f"a value is missing: {value}")
            yield bytes(value)

    def put(self, requests: Iterator[bytes], context: object) -> bytes:
        """Each value as it comes."""
        _, *keys = next(requests).split(b"\n")
        for key, value in zip(keys, requests, strict=True):
            if any(self._path.put([(key, (value,))])):
                raise RuntimeError("a value was not taken")
        return b"done"

    def _buffer(self, size: int) -> memoryview:
        buffer: bytearray | None = getattr(self._scratch, "buffer", None)
        if buffer is None or len(buffer) != size:
            buffer = self._scratch.buffer = bytearray(size)
        return memoryview(buffer)


def main(port: int, socket: str) -> None:
    """Serve until the process is ended."""
    handlers = Handlers(DataPath.to_server(RedisAddress(path=socket)))
    options = [(f"grpc.max_{way}_message_length", MAX_MESSAGE_BYTES) for way in ("receive", "send")]
    server = grpc.server(ThreadPoolExecutor(4), options=options)
    methods: Any = {
        "Get": grpc.unary_stream_rpc_method_handler(handlers.get),
        "GetAhead": grpc.unary_stream_rpc_method_handler(handlers.get_ahead),
        "Put": grpc.stream_unary_rpc_method_handler(handlers.put),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
