"""Serve the echo service until a signal; takes settings as JSON, prints the port once ready."""

from __future__ import annotations

import asyncio
import json
import sys

from stagemesh.logs import configure_logging
from stagemesh.rpc.context import Identity
from stagemesh.rpc.server import Server
from stagemesh.telemetry import Metrics
from tests.rpc.echo_mesh import echo_handler, free_settings


async def main() -> None:
    values = json.loads(sys.argv[1])
    answer_s, replica = values.pop("answer_s", 0.0), values.get("replica", "replica")

    async def answer(data: bytes) -> bytes:
        await asyncio.sleep(answer_s)
        return f"{replica} {len(data)}".encode()

    identity = Identity("echo", replica)
    configure_logging("info", "human", *(identity.stage, identity.replica))
    server = Server(identity, free_settings(**values), Metrics("echo"), [echo_handler(answer)])
    await server.start()
    server.set_ready(True)
    print(server.port, flush=True)
    await server.serve_until_signal()


asyncio.run(main())
