"""A model at one stage: check, batch, compute, hand on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from stagemesh.errors import InvalidInput, StageFailed, StagemeshError
from stagemesh.oip.messages import InferRequest, InferResponse
from stagemesh.oip.signature import Signature, check_inputs
from stagemesh.oip.tensors import Parameter, Tensor
from stagemesh.plugins import Arrays, home_of, own_frame
from stagemesh.repository import Batching, ModelFolder
from stagemesh.rpc.context import remaining
from stagemesh.stage.batcher import Batcher
from stagemesh.stage.job_queue import Answer
from stagemesh.stage.kind import Meta, StageKind
from stagemesh.stage.model import ServedModel, queue_policy, select_outputs
from stagemesh.stage.route import ROUTE, ROUTE_DONE, Router, parse_route, plain_parameters, split_meta
from stagemesh.stage.runner import Closable, Runner
from stagemesh.telemetry import ModelMetrics

log = logging.getLogger(__name__)


class StageModel(ServedModel):
    """Runs a Runner behind a batcher; `meta.*` tensors it does not take itself travel past it."""

    policy: Batching

    def __init__(
        self,
        folder: ModelFolder,
        *,
        kind: StageKind,
        platform: str,
        runner: Runner,
        signature: Signature,
        policy: Batching,
        instances: int,
        router: Router,
        metrics: ModelMetrics,
        default_deadline_s: float,
    ) -> None:
        super().__init__(folder.name, folder.version, folder.digest)
        self.platform = platform
        self.policy = policy
        self._kind = kind
        self._runner = runner
        self._signature = signature
        self._takes = {spec.name for spec in self._signature.inputs}
        self._router = router
        self._metrics = metrics
        self._default_deadline_s = default_deadline_s
        self._batcher = Batcher(self._run, policy, instances=instances, merge=kind.merges, on_batch=self._observe_batch)

    async def signature(self) -> Signature:
        return self._signature

    async def max_batch(self) -> int:
        return self.policy.max_batch

    async def close(self) -> None:
        await self._batcher.close()
        if isinstance(self._runner, Closable):
            await asyncio.to_thread(self._runner.close)

    async def infer(self, request: InferRequest) -> InferResponse:
        route = parse_route(request.parameters.get(ROUTE, ""), self._kind.name)
        if route:
            self._router.check(route)
        outputs = await self._compute(request)
        if not route:
            return InferResponse(self.name, select_outputs(outputs, request.outputs), self.version, request.id)
        response = await self._router.carry(route, replace(request, inputs=outputs))
        response.parameters[ROUTE_DONE] = True
        return response

    async def _compute(self, request: InferRequest) -> dict[str, Tensor]:
        """This stage's outputs for a request, with the `meta.*` tensors that pass by."""
        started = time.monotonic()
        own, passing = self._split(request.inputs)
        rows = check_inputs(own, self._signature.inputs, self.policy.max_batch)
        _check_passing(passing, rows)
        priority, timeout_s = queue_policy(request, self.policy.queue_timeout_us)
        arrays = {name: tensor.numpy() for name, tensor in own.items()}
        self.statistics.compute_input.add(time.monotonic() - started)
        left_s = remaining(self._default_deadline_s)
        answer = await self._batcher.submit(
            arrays,
            rows,
            parameters=plain_parameters(request),
            priority=priority,
            timeout_s=left_s if timeout_s is None else min(timeout_s, left_s),
        )
        return {**self._to_tensors(answer), **passing}

    def _split(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The tensors for the runner, and those that go to the next stage beside its outputs."""
        if self._kind.meta is Meta.REFUSE:
            return dict(inputs), {}
        own, meta = split_meta(inputs)
        own.update((name, tensor) for name, tensor in meta.items() if name in self._takes)
        if self._kind.meta is Meta.DROP:
            return own, {}
        return own, {name: tensor for name, tensor in meta.items() if name not in self._takes}

    def _to_tensors(self, answer: Answer) -> dict[str, Tensor]:
        self.statistics.queue.add(answer.queue_s)
        self.statistics.compute_infer.add(answer.compute_s)
        self._metrics.queue_seconds.observe(answer.queue_s)
        started = time.monotonic()
        try:
            outputs = {name: Tensor.from_numpy(array) for name, array in answer.outputs.items()}
        except InvalidInput as error:
            raise StageFailed(f"an output of {type(self._runner).__name__} can't be sent: {error}") from error
        self.statistics.compute_output.add(time.monotonic() - started)
        return outputs

    def _observe_batch(self, rows: int, seconds: float) -> None:
        self.statistics.batch(rows, seconds)
        self._metrics.batch_size.observe(rows)
        self._metrics.compute_seconds.observe(seconds)

    def _run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        try:
            return self._runner.run(inputs, parameters)
        except StagemeshError:
            raise
        except BaseException as error:  # a plug-in may raise anything, or exit; the caller learns where
            log.debug("model '%s' raised", self.name, exc_info=True)
            raise StageFailed(_describe(self._runner, error)) from error


def _check_passing(tensors: Mapping[str, Tensor], rows: int) -> None:
    for name, tensor in tensors.items():
        if tensor.shape[:1] != (rows,):
            raise InvalidInput(
                f"input '{name}': expected {rows} rows as the other inputs have, found shape {list(tensor.shape)}"
            )


def _describe(runner: Runner, error: BaseException) -> str:
    """What was raised, and where: the innermost line of the plug-in's own code, not of a library it calls."""
    frame = own_frame(error, home_of(type(runner)))
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(runner).__name__} raised {type(error).__name__} at {place}: {error}"
