"""What the servers' answers mean: protobuf messages as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from stagemesh.errors import InvalidInput, StageFailed
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.messages import InferResponse
from stagemesh.oip.tensors import Parameter


@dataclass(frozen=True, slots=True)
class InferResult(Mapping[str, np.ndarray]):
    """The answer to one request: output name -> read-only array, and what the server said beside it.

    A BYTES output is an object array of `bytes`.
    """

    outputs: Mapping[str, np.ndarray]
    model_name: str
    model_version: str = ""
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model of a server's repository; `state` is READY, LOADING, UNAVAILABLE, UNLOADING or UNKNOWN."""

    name: str
    version: str
    state: str
    reason: str

    @property
    def ready(self) -> bool:
        return self.state == "READY"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output as the server describes it; the shape is batch first, -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    properties: Mapping[str, str]


def text_of(value: object) -> str:
    """An item of a BYTES output, such as a label, as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def parse_infer(data: bytes) -> InferResult:
    """A ModelInferResponse; raises StageFailed where the server's answer is malformed."""
    try:
        response = InferResponse.decode(data)
        arrays = {name: tensor.numpy() for name, tensor in response.outputs.items()}
    except InvalidInput as error:
        raise StageFailed(f"the server answered a response that can't be read: {error}") from error
    return InferResult(arrays, response.model_name, response.model_version, response.id, response.parameters)


def parse_index(answer: pb.RepositoryIndexResponse) -> tuple[ModelState, ...]:
    """The models of a RepositoryIndexResponse."""
    return tuple(ModelState(model.name, model.version, model.state, model.reason) for model in answer.models)


def parse_metadata(answer: pb.ModelMetadataResponse) -> ModelMetadata:
    """A ModelMetadataResponse."""
    return ModelMetadata(
        answer.name,
        tuple(answer.versions),
        answer.platform,
        tuple(TensorInfo(spec.name, spec.datatype, tuple(spec.shape)) for spec in answer.inputs),
        tuple(TensorInfo(spec.name, spec.datatype, tuple(spec.shape)) for spec in answer.outputs),
        dict(answer.properties),
    )
