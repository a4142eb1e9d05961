"""Handler and stub over a real channel, blocking and not, and a stock client."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import numpy as np
import pytest

from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.messages import (
    InferRequest,
    InferResponse,
    decode_stream_response,
    encode_stream_response,
)
from stagemesh.oip.service import SERVICE_NAME, OipServicer, OipStub, oip_handler
from stagemesh.oip.tensors import Tensor


class Echo(OipServicer):
    """Answers its inputs as outputs, and fails a streamed request of model 'bad' in band."""

    async def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=True)

    async def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="echo", extensions=["statistics"])

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=request.name == "echo")

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        return pb.ModelMetadataResponse(name=request.name, properties={"exact": "true"})

    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        inputs = [pb.ModelInput(name="x", data_type=pb.TYPE_FP32, dims=[-1])]
        return pb.ModelConfigResponse(config=pb.ModelConfig(name=request.name, max_batch_size=4, input=inputs))

    async def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        return pb.ModelStatisticsResponse(model_stats=[pb.ModelStatistics(name="echo", inference_count=3)])

    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        models = [pb.RepositoryIndexResponse.ModelIndex(name="echo", version="1", state="READY")]
        return pb.RepositoryIndexResponse(models=models)

    async def model_infer(self, data: bytes) -> bytes:
        request = InferRequest.decode(data)
        return InferResponse(request.model_name, request.inputs, "1", request.id).encode()

    async def model_stream_infer(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for data in requests:
            if InferRequest.decode(data).model_name == "bad":
                yield encode_stream_response(error="bad model")
            else:
                yield encode_stream_response(await self.model_infer(data))


@pytest.fixture
async def address() -> AsyncIterator[str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((oip_handler(Echo()),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def request(model: str = "echo") -> InferRequest:
    return InferRequest(model, {"x": Tensor.from_numpy(np.arange(6, dtype="f4").reshape(2, 3))}, id="7")


async def test_every_rpc_over_an_aio_channel(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = OipStub(channel)
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
        assert (await stub.ServerMetadata(pb.ServerMetadataRequest())).name == "echo"
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="other"))).ready
        metadata = await stub.ModelMetadata(pb.ModelMetadataRequest(name="m"))
        assert metadata.properties == {"exact": "true"}
        assert (await stub.ModelConfig(pb.ModelConfigRequest())).config.max_batch_size == 4
        statistics = await stub.ModelStatistics(pb.ModelStatisticsRequest())
        assert statistics.model_stats[0].inference_count == 3
        assert (await stub.RepositoryIndex(pb.RepositoryIndexRequest())).models[0].state == "READY"
        response = InferResponse.decode(await stub.ModelInfer(request().encode()))
        assert (response.outputs, response.id) == (request().inputs, "7")
        assert stub.ModelInfer is stub.ModelInfer


async def test_stream_goes_on_after_a_failed_request(address: str) -> None:
    async def requests() -> AsyncIterator[bytes]:
        for model in ("echo", "bad", "echo"):
            yield request(model).encode()

    async with grpc.aio.insecure_channel(address) as channel:
        answers = [decode_stream_response(data) async for data in OipStub(channel).ModelStreamInfer(requests())]
    assert [error for _, error in answers] == ["", "bad model", ""]
    assert InferResponse.decode(answers[2][0]).outputs == request().inputs


async def test_blocking_channel(address: str) -> None:
    def call() -> tuple[bytes, str]:
        with grpc.insecure_channel(address) as channel:
            stub = OipStub(channel)
            return stub.ModelInfer(request().encode()), stub.ServerMetadata(pb.ServerMetadataRequest()).name

    data, name = await asyncio.to_thread(call)
    assert name == "echo"
    assert InferResponse.decode(data).outputs == request().inputs


async def test_malformed_control_request_names_its_message(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/{SERVICE_NAME}/ModelReady")
        with pytest.raises(grpc.aio.AioRpcError, match="malformed ModelReadyRequest"):
            await call(b"\x0a\x05")


def test_every_declared_rpc_is_served_and_callable() -> None:
    declared = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    handler = oip_handler(Echo())
    for name in declared:
        details = type("Details", (), {"method": f"/{SERVICE_NAME}/{name}", "invocation_metadata": ()})()
        assert handler.service(details) is not None
        assert name in vars(OipStub)


TRITON_CLIENT = """
import queue, sys
import numpy as np, tritonclient.grpc as triton
client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_model_ready("echo") and not client.is_model_ready("other")
assert client.get_model_config("m").config.input[0].data_type == 11
assert client.get_inference_statistics().model_stats[0].inference_count == 3
arrays = {"FP32": np.arange(6, dtype="f4").reshape(2, 3), "BYTES": np.array([b"a", "\\u00e9"], object)}
inputs = [triton.InferInput(name, array.shape, name) for name, array in arrays.items()]
for tensor in inputs:
    tensor.set_data_from_numpy(arrays[tensor.name()])
result = client.infer("echo", inputs, request_id="5")
assert result.get_response().id == "5"
assert (result.as_numpy("FP32") == arrays["FP32"]).all()
assert result.as_numpy("BYTES").tolist() == [b"a", "\\u00e9".encode()]
answers = queue.Queue()
client.start_stream(lambda result, error: answers.put((result, error)))
for model in ("echo", "bad"):
    client.async_stream_infer(model, inputs)
result, error = answers.get(timeout=20)
assert error is None and result.as_numpy("FP32").shape == (2, 3)
assert "bad model" in str(answers.get(timeout=20)[1])
client.stop_stream()
# Left to the interpreter's end, closing the channel hangs now and then.
client.close()
"""


async def test_stock_triton_client(address: str) -> None:
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TRITON_CLIENT, address, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, stderr = await asyncio.wait_for(client.communicate(), 60)
    finally:
        if client.returncode is None:
            client.kill()
    assert client.returncode == 0, stderr.decode()
