"""Server processes of a benchmark, all with the same allocator settings."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc

from stagemesh.machine import ALLOCATOR
from stagemesh.rpc.channel import sync_channel

START_S = 60


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def restart_with_allocator() -> None:
    """Start this program again with ALLOCATOR in its environment, unless it is there: so that what runs in the process
    of the benchmark allocates as the servers do."""
    if not ALLOCATOR.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ALLOCATOR})


@contextmanager
def python_server(*arguments: str, port: int) -> Iterator[grpc.Channel]:
    """Run `python ARGUMENTS`, a gRPC server on `port`, while the block lasts; a channel to it, connected."""
    command: Sequence[str] = [sys.executable, *arguments]
    process = subprocess.Popen(command, env={**os.environ, **ALLOCATOR}, stderr=subprocess.DEVNULL)
    try:
        with sync_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=START_S)
            yield channel
    finally:
        process.terminate()
        process.wait(30)
