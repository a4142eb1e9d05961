"""The message classes of other clients, in pools of their own: two clients can't be imported in one process."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from base64 import b64decode

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

TRITON = "tritonclient.grpc.service_pb2"
KSERVE = "kserve.protocol.grpc.grpc_predict_v2_pb2"

_DUMP = """
import base64, importlib, json, sys
def files(file):
    for dependency in file.dependencies:
        yield from files(dependency)
    yield base64.b64encode(file.serialized_pb).decode()
print(json.dumps(list(files(importlib.import_module(sys.argv[1]).DESCRIPTOR))))
"""


@functools.cache
def foreign_pool(module: str) -> DescriptorPool:
    """A pool with the file of the generated `module`, which a process of its own imports."""
    found = subprocess.run([sys.executable, "-c", _DUMP, module], capture_output=True, text=True, check=True)
    pool = descriptor_pool.DescriptorPool()
    for encoded in json.loads(found.stdout.splitlines()[-1]):
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(b64decode(encoded)))
    return pool


def foreign_class(module: str, name: str) -> type[Message]:
    """The client's class of message `inference.<name>`."""
    return message_factory.GetMessageClass(foreign_pool(module).FindMessageTypeByName(f"inference.{name}"))
