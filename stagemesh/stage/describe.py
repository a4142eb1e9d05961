"""A served model in the words of ModelMetadata and ModelConfig."""

from __future__ import annotations

from collections.abc import Iterable

from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.datatypes import DATATYPES
from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.stage.model import ServedModel


def to_metadata(model: ServedModel, signature: Signature) -> pb.ModelMetadataResponse:
    """Name, versions, platform and tensors; shapes include the batch dimension."""
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=[model.version],
        platform=model.platform,
        inputs=_tensors(signature.inputs),
        outputs=_tensors(signature.outputs),
    )


def _tensors(specs: Iterable[TensorSpec]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [pb.ModelMetadataResponse.TensorMetadata(name=s.name, datatype=s.datatype, shape=s.shape) for s in specs]


def to_config(model: ServedModel, signature: Signature, max_batch: int) -> pb.ModelConfig:
    """What perf_analyzer and tritonclient read; dims leave the batch dimension out."""
    return pb.ModelConfig(
        name=model.name,
        platform=model.platform,
        max_batch_size=max_batch,
        input=[
            pb.ModelInput(
                name=s.name, data_type=DATATYPES[s.datatype].config_type, dims=s.shape[1:], optional=s.optional
            )
            for s in signature.inputs
        ],
        output=[
            pb.ModelOutput(name=s.name, data_type=DATATYPES[s.datatype].config_type, dims=s.shape[1:])
            for s in signature.outputs
        ],
        dynamic_batching=_dynamic_batching(model),
    )


def _dynamic_batching(model: ServedModel) -> pb.ModelDynamicBatching | None:
    policy = model.policy
    if policy is None:
        return None
    return pb.ModelDynamicBatching(
        preferred_batch_size=policy.preferred_batch,
        max_queue_delay_microseconds=policy.queue_delay_us,
        default_queue_policy=pb.ModelQueuePolicy(
            default_timeout_microseconds=policy.queue_timeout_us,
            allow_timeout_override=True,
            max_queue_size=policy.max_queue,
        ),
    )
