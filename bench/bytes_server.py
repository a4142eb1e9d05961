"""The reference of a hop: a bare grpc.aio handler, bytes in, bytes out: `python -m bench.bytes_server PORT`.

`/bench/Tiny` answers with a few bytes, `/bench/Echo` with what it got.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc

from stagemesh.rpc.channel import MAX_MESSAGE_BYTES


async def tiny(request: bytes, context: Any) -> bytes:
    return b"done"


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def main(port: int) -> None:
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
    )
    handlers: Any = {name: grpc.unary_unary_rpc_method_handler(f) for name, f in (("Tiny", tiny), ("Echo", echo))}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
