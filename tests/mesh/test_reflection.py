"""What tools without our protos see: reflection that describes every service, and the standard health service."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.mesh.processes import Mesh, ServiceProcess, running

pytestmark = pytest.mark.xdist_group("mesh")

INFERENCE = "inference.GRPCInferenceService"
SERVICES = {INFERENCE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
STATUS = health_pb2.HealthCheckResponse.ServingStatus


@pytest.fixture(params=["gateway", "preprocess"])
def channel(mesh: Mesh, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(getattr(mesh, request.param).target) as channel:
        yield channel


def test_every_service_is_listed_and_described(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == SERVICES
    pool = DescriptorPool(database)
    for name in SERVICES:
        for method in pool.FindServiceByName(name).methods:
            assert method.input_type.full_name
            assert method.output_type.full_name
    assert {method.name for method in pool.FindServiceByName(INFERENCE).methods} >= {"ModelInfer", "ModelStreamInfer"}


def test_a_described_method_can_be_called(channel: grpc.Channel) -> None:
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName(INFERENCE).methods_by_name["ModelReady"]
    asked, answered = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    call = channel.unary_unary(f"/{INFERENCE}/ModelReady", asked.SerializeToString, answered.FromString)
    assert call(asked(name="classify"), timeout=10).ready


def test_a_method_can_be_described_by_its_own_name(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{INFERENCE}.ModelInfer")
    (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=10)
    assert answer.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("symbol", ["inference.Nothing", f"{INFERENCE}.Nothing", "", "a.b.c"])
def test_an_unknown_symbol_is_not_found(channel: grpc.Channel, symbol: str) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=10)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("service", ["", INFERENCE, "liveness"])
def test_health_check(channel: grpc.Channel, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    question = health_pb2.HealthCheckRequest(service=service)
    assert stub.Check(question, timeout=10).status == STATUS.SERVING
    watch = stub.Watch(question, timeout=10)
    assert next(watch).status == STATUS.SERVING
    watch.cancel()


def test_health_of_an_unknown_service(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    question = health_pb2.HealthCheckRequest(service="no such service")
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(question, timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    watch = stub.Watch(question, timeout=10)
    assert next(watch).status == STATUS.SERVICE_UNKNOWN
    watch.cancel()


def test_a_watcher_hears_that_a_server_drains() -> None:
    service = ServiceProcess("postprocess", drain_s=0.5)
    with running(service), grpc.insecure_channel(service.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == STATUS.SERVING
        assert service.terminate() == 0
        assert next(watch).status == STATUS.NOT_SERVING
