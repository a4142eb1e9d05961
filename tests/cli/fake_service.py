"""A stand-in for any service: copied to `services/<name>/__main__.py` of a make-believe checkout.

FAKE_<NAME> says how it behaves, FAKE_JOURNAL names the file it notes its life in.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

NAME = Path(__file__).parent.name
BEHAVIOUR = os.environ.get(f"FAKE_{NAME.upper()}", "serve")
PORT = sys.argv[sys.argv.index("--port") + 1]


def note(event: str) -> None:
    with Path(os.environ["FAKE_JOURNAL"]).open("a") as journal:
        journal.write(f"{NAME} {event}\n")


def serve() -> None:
    stop = threading.Event()
    stubborn = BEHAVIOUR == "stubborn"
    signal.signal(signal.SIGTERM, lambda *_: note("ignored SIGTERM") if stubborn else stop.set())
    servicer = health.HealthServicer()
    status = health_pb2.HealthCheckResponse
    servicer.set("", status.NOT_SERVING if BEHAVIOUR == "never ready" else status.SERVING)
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{PORT}")
    server.start()
    stop.wait()
    server.stop(0).wait()


note("started")
for variable in ("MALLOC_MMAP_THRESHOLD_", "STAGEMESH_INFER_TARGET", "STAGEMESH_THREADS"):
    note(f"{variable}={os.environ.get(variable, '')}")
if BEHAVIOUR == "crash":
    print("the engine is missing")
    sys.exit(3)
if BEHAVIOUR == "bad setting":
    print("port: expected a whole number")
    sys.exit(2)
if BEHAVIOUR == "with child":
    subprocess.Popen(["sleep", "600"])
serve()
note("stopped")
