"""The Open Inference Protocol over a table of models: convert, call, convert back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib.metadata import version as package_version

from stagemesh.errors import InvalidInput, StagemeshError
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.decoding import decode_request
from stagemesh.oip.messages import encode_stream_response
from stagemesh.oip.service import OipServicer
from stagemesh.oip.wire import LENGTH, encodable, fields
from stagemesh.rpc.context import Identity, call_model
from stagemesh.rpc.status import call_origin, details_text
from stagemesh.rpc.streams import answering
from stagemesh.stage.describe import to_config, to_metadata
from stagemesh.stage.hop import ROUTE_EXTENSION
from stagemesh.stage.lifecycle import Lifecycle
from stagemesh.stage.model import ServedModel
from stagemesh.stage.model_table import State
from stagemesh.stage.ordered import in_order
from stagemesh.stage.repository_request import KEEP, RELEASE, UNLOAD_DEPENDENTS, parameter, requested_model
from stagemesh.stage.route import GENERATION

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
STREAM_WINDOW = 16


class StageServicer(OipServicer):
    """Serves the models of a Lifecycle.

    `ready` says whether the server takes requests, `routes` whether it advertises that it serves routes.
    """

    def __init__(
        self, identity: Identity, lifecycle: Lifecycle, ready: Callable[[], bool], *, routes: bool = True
    ) -> None:
        self._identity = identity
        self._lifecycle = lifecycle
        self._ready = ready
        self._table = lifecycle.house.table
        self._extensions = (*EXTENSIONS, ROUTE_EXTENSION) if routes else EXTENSIONS

    async def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._ready())

    async def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name=f"stagemesh-{self._identity.stage}", version=package_version("stagemesh"), extensions=self._extensions
        )

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Never an error for an unknown or loading model: clients poll this."""
        try:
            ready = await self._table.entry(request.name, request.version).served().ready()
        except StagemeshError:
            ready = False
        return pb.ModelReadyResponse(ready=ready)

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        model = self._model(request.name, request.version)
        return to_metadata(model, await model.signature())

    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        model = self._model(request.name, request.version)
        return pb.ModelConfigResponse(config=to_config(model, await model.signature(), await model.max_batch()))

    async def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        if request.name:
            models = [self._model(request.name, request.version)]
        else:
            models = [entry.model for entry in self._table if entry.model is not None]
        return pb.ModelStatisticsResponse(model_stats=[m.statistics.to_proto(m.name, m.version) for m in models])

    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        entries = [e for e in self._table if e.state is State.READY or not request.ready]
        return pb.RepositoryIndexResponse(
            models=[
                pb.RepositoryIndexResponse.ModelIndex(
                    name=e.name, version=e.version, state=e.state.value, reason=encodable(e.reason)
                )
                for e in entries
            ]
        )

    async def repository_model_load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        name = requested_model(request)
        await self._lifecycle.load(name, keep=parameter(request, KEEP))
        return pb.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        name = requested_model(request)
        if generation := parameter(request, RELEASE, {UNLOAD_DEPENDENTS}):
            await self._lifecycle.release(name, generation)
        else:
            await self._lifecycle.unload(name)
        return pb.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    async def model_infer(self, data: bytes) -> bytes:
        try:
            request = await decode_request(data)
        except StagemeshError:
            self._note_model(data)
            raise
        model = self._model(request.model_name, request.model_version, request.parameters.get(GENERATION, ""))
        with model.in_use(), model.statistics.timed():
            response = await model.infer(request)
        return response.encode()

    async def model_stream_infer(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Answers in the order of the requests, up to STREAM_WINDOW of them computed side by side."""
        async for response in in_order(self._stream_answer, requests, STREAM_WINDOW):
            yield response

    async def _stream_answer(self, data: bytes) -> bytes:
        try:
            with answering():
                return encode_stream_response(await self.model_infer(data))
        except StagemeshError as error:
            text = details_text(error, call_origin(self._identity))
            return encode_stream_response(error=text, id=_text(data, pb.ModelInferRequest.ID_FIELD_NUMBER))

    def _model(self, name: str, version: str, generation: object = "") -> ServedModel:
        # Known by its name already, so that an error about the version names the model too.
        call_model.set(self._table.entry(name).name)
        return self._table.entry(name, version).served(generation)

    def _note_model(self, data: bytes) -> None:
        """Find which model a request that can't be decoded is for, so that its error names it."""
        with suppress(StagemeshError):
            call_model.set(self._table.entry(_text(data, pb.ModelInferRequest.MODEL_NAME_FIELD_NUMBER)).name)


def _text(data: bytes, number: int) -> str:
    """A text field of a request that may be malformed; empty where the message breaks off before it."""
    with suppress(InvalidInput):
        for field in fields(data):
            if field.number == number and field.wire_type == LENGTH:
                return data[field.payload : field.end].decode(errors="replace")
    return ""
