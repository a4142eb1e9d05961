"""An Open Inference Protocol server to test clients with; prints its port, serves until SIGTERM.

Models: `echo` answers its inputs as outputs, `slow` sleeps `parameters['sleep_s']` first, `labels` answers
`top_k` of two classes. A request with parameter `fail`, or with a photo that is b"bad", is refused.
`python oip_server.py not-ready` serves, but never becomes ready; `no-index` can't tell its models.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import numpy as np

from stagemesh.errors import InvalidInput, StageFailed, UnknownModel
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.messages import InferRequest, InferResponse, encode_stream_response
from stagemesh.oip.service import OipServicer, oip_handler
from stagemesh.oip.tensors import Tensor
from stagemesh.rpc.context import Identity, call_model
from stagemesh.rpc.server import Server
from stagemesh.settings import ServiceSettings
from stagemesh.telemetry import Metrics

MODELS = ("echo", "slow", "labels")
TensorMetadata = pb.ModelMetadataResponse.TensorMetadata


class EchoServicer(OipServicer):
    def __init__(self, ready: bool) -> None:
        self.is_ready = ready

    async def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self.is_ready)

    async def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="echo-server")

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self.is_ready and request.name in MODELS)

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        self._enter(request.name)
        tensor = TensorMetadata(name="image", datatype="BYTES", shape=[-1])
        return pb.ModelMetadataResponse(
            name=request.name, versions=["1"], platform="echo", inputs=[tensor], outputs=[tensor]
        )

    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        self._enter(request.name)
        return pb.ModelConfigResponse(config=pb.ModelConfig(name=request.name, max_batch_size=4))

    async def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        names = [request.name] if request.name else MODELS
        return pb.ModelStatisticsResponse(model_stats=[pb.ModelStatistics(name=name) for name in names])

    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        if "no-index" in sys.argv:
            raise StageFailed("the repository can't be read")
        state, reason = ("READY", "") if self.is_ready else ("LOADING", "fetching weights")
        index = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(
            models=[index(name=name, version="1", state=state, reason=reason) for name in MODELS]
        )

    async def model_infer(self, data: bytes) -> bytes:
        request = InferRequest.decode(data)
        self._enter(request.model_name)
        if "fail" in request.parameters:
            raise InvalidInput("expected no parameter 'fail', found one")
        if any(b"bad" in bytes(tensor.raw) for tensor in request.inputs.values()):
            raise InvalidInput("image 0: expected a photo, found b'bad'")
        await asyncio.sleep(float(request.parameters.get("sleep_s", 0)))
        if request.model_name == "labels":
            return InferResponse("labels", _labels(request), "1", request.id).encode()
        wanted = request.outputs or tuple(request.inputs)
        outputs = {name: request.inputs[name] for name in wanted}
        return InferResponse(request.model_name, outputs, "1", request.id, request.parameters).encode()

    async def model_stream_infer(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for request in requests:
            yield encode_stream_response(await self.model_infer(request))

    @staticmethod
    def _enter(model: str) -> None:
        if model not in MODELS:
            raise UnknownModel(f"no model '{model}'")
        call_model.set(model)


def _labels(request: InferRequest) -> dict[str, Tensor]:
    count = int(request.parameters.get("top_k", 2))
    arrays = {
        "labels": np.array([[b"espresso", b"[cup]"]], dtype=object),
        "scores": np.array([[0.75, 0.25]], np.float32),
        "class_ids": np.array([[967, 968]], np.int32),
    }
    return {name: Tensor.from_numpy(array[:, :count]) for name, array in arrays.items()}


async def main() -> None:
    ready = "not-ready" not in sys.argv
    settings = ServiceSettings(port=0, http_port=0, drain_s=0)
    server = Server(Identity("echo", "echo-1"), settings, Metrics("echo"), [oip_handler(EchoServicer(ready))])
    await server.start()
    server.set_ready(ready)
    print(server.port, flush=True)
    await server.serve_until_signal()


asyncio.run(main())
