"""A model as the gateway serves it: the whole way from photo to label, through other services."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.messages import InferRequest, InferResponse
from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.repository import ModelFolder
from stagemesh.stage.hop import Hop
from stagemesh.stage.house import House
from stagemesh.stage.model import ServedModel, queue_policy
from stagemesh.stage.route import GENERATION, PIPELINE, Router, plain_parameters


class Pipeline(ServedModel):
    """Sends a request down preprocess → infer → postprocess; opens no tensor."""

    platform = "stagemesh_pipeline"

    def __init__(self, folder: ModelFolder, router: Router, hops: Mapping[str, Hop]) -> None:
        super().__init__(folder.name, folder.version, folder.digest)
        self._router = router
        self._hops = [hops[stage] for stage in PIPELINE]

    async def infer(self, request: InferRequest) -> InferResponse:
        """A client's own `stagemesh_*` parameters are dropped: routes come from the gateway alone."""
        queue_policy(request, 0)
        started = time.monotonic()
        parameters = {**plain_parameters(request), GENERATION: self.generation}
        onward = replace(request, parameters=parameters, model_version="")
        response = await self._router.carry(PIPELINE, onward)
        self.statistics.batch(_rows(request), time.monotonic() - started)
        return InferResponse(self.name, response.outputs, self.version, request.id)

    async def signature(self) -> Signature:
        """The inputs of the first stage and the outputs of the last, asked from them. Raises as `Hop.metadata`."""
        first = await self._hops[0].metadata(self.name)
        last = await self._hops[-1].metadata(self.name)
        return Signature(_specs(first.inputs), _specs(last.outputs))

    async def max_batch(self) -> int:
        """The smallest of the stages that tell one."""
        sizes = [await hop.max_batch(self.name) for hop in self._hops]
        return min(filter(None, sizes), default=0)

    async def ready(self) -> bool:
        return all([await hop.model_ready(self.name) for hop in self._hops])

    async def close(self) -> None:
        """Nothing of its own: the hops belong to the service."""


def _rows(request: InferRequest) -> int:
    """The samples of a request: how many its first input has."""
    return next((tensor.shape[0] for tensor in request.inputs.values() if tensor.shape), 1)


def _specs(tensors: Iterable[pb.ModelMetadataResponse.TensorMetadata]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(t.name, t.datatype, tuple(t.shape)) for t in tensors)


class PipelineMaker:
    """Offers each model that has a table for every stage."""

    def serves(self, folder: ModelFolder) -> bool:
        """Whether the folder has the tables."""
        return all(stage in folder.tables for stage in PIPELINE)

    async def make(self, house: House, folder: ModelFolder) -> Pipeline:
        """The pipeline of a model. Raises ConfigError for a table that is missing."""
        for stage in PIPELINE:
            folder.table(stage)
        return Pipeline(folder, house.router, house.hops)
