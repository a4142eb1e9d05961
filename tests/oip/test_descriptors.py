"""The declared protocol is that of the clients people have, field by field, and lives beside them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.service import SERVICE_NAME

from .foreign import KSERVE, TRITON, foreign_pool

ROOT = Path(__file__).parents[2]
# Not in Triton's files: of the protocol's own text, or KServe's answers to a load and an unload.
NOT_TRITON = {
    "inference.ModelMetadataResponse.properties",
    "inference.ModelMetadataResponse.PropertiesEntry",
    *(f"inference.RepositoryModelLoadResponse.{name}" for name in ("model_name", "isLoaded")),
    *(f"inference.RepositoryModelUnloadResponse.{name}" for name in ("model_name", "isUnloaded")),
}
# KServe has the model's name where Triton has that of the repository: a server tells by which of them is there.
NOT_KSERVE = {f"inference.RepositoryModel{verb}Request.model_name" for verb in ("Load", "Unload")}


def messages(found: FileDescriptor | Descriptor) -> Iterator[Descriptor]:
    nested = found.nested_types if isinstance(found, Descriptor) else found.message_types_by_name.values()
    for message in nested:
        yield message
        yield from messages(message)


def form(field: FieldDescriptor) -> tuple[object, ...]:
    """What decides how a field is on the wire."""
    inner = field.message_type or field.enum_type
    oneof = field.containing_oneof.name if field.containing_oneof else ""
    return field.number, field.type, field.is_repeated, inner.full_name if inner else "", oneof


DECLARED = {message.full_name: message for message in messages(pb.DESCRIPTOR)}


@pytest.mark.parametrize("name", sorted(DECLARED.keys() - NOT_TRITON))
def test_message_is_triton_s(name: str) -> None:
    theirs = foreign_pool(TRITON).FindMessageTypeByName(name).fields_by_name
    for field in DECLARED[name].fields:
        if field.full_name not in NOT_TRITON:
            assert form(field) == form(theirs[field.name])


def test_fields_that_kserve_has_are_the_same() -> None:
    compared = 0
    for name, message in DECLARED.items():
        try:
            theirs = foreign_pool(KSERVE).FindMessageTypeByName(name).fields_by_name
        except KeyError:
            continue
        shared = [field for field in message.fields if field.name in theirs and field.full_name not in NOT_KSERVE]
        assert [form(field) for field in shared] == [form(theirs[field.name]) for field in shared]
        missing = {*theirs} - {field.name for field in shared}
        assert {f"{name}.{field}" for field in missing} <= NOT_KSERVE
        compared += len(shared)
    assert compared > 50


def test_enums_are_triton_s() -> None:
    inner = [enum for message in DECLARED.values() for enum in message.enum_types]
    for enum in [*pb.DESCRIPTOR.enum_types_by_name.values(), *inner]:
        theirs = foreign_pool(TRITON).FindEnumTypeByName(enum.full_name)
        assert {v.name: v.number for v in enum.values} == {v.name: v.number for v in theirs.values}


@pytest.mark.parametrize("client", [TRITON, KSERVE])
def test_rpcs_are_the_clients(client: str) -> None:
    theirs = foreign_pool(client).FindServiceByName(SERVICE_NAME).methods_by_name
    ours = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    shared = [method for method in ours if method.name in theirs]
    for method in shared:
        other = theirs[method.name]
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name
        assert method.client_streaming == other.client_streaming
        assert method.server_streaming == other.server_streaming
    assert len(shared) == (len(ours) if client == TRITON else 8)


@pytest.mark.parametrize("client", ["tritonclient.grpc", "kserve"])
@pytest.mark.parametrize("order", ["{client}, {ours}", "{ours}, {client}"])
def test_imports_beside_a_client(client: str, order: str) -> None:
    code = "import " + order.format(client=client, ours="stagemesh.oip.service")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_generated_files_are_up_to_date() -> None:
    pytest.importorskip("grpc_tools")
    command = [sys.executable, str(ROOT / "protos" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_enum_values_are_names_of_the_module() -> None:
    assert pb.DataType.Name(pb.TYPE_BF16) == "TYPE_BF16"
    assert pb.POOL.FindMessageTypeByName("inference.ModelConfig") is pb.ModelConfig.DESCRIPTOR
