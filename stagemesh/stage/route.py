"""The way of a request from stage to stage.

The gateway gives the whole route; every stage runs its part and hands its outputs to the next hop
itself. A stage that has served the rest of the route says so; where that word is missing, a foreign
server stands there and the caller carries the route on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stagemesh.errors import InvalidInput, Unavailable
from stagemesh.oip.messages import InferRequest, InferResponse
from stagemesh.oip.tensors import Parameter, Tensor
from stagemesh.stage.hop import Hop

ROUTE = "stagemesh_route"
ROUTE_DONE = "stagemesh_route_done"
GENERATION = "stagemesh_generation"
"""Parameter the gateway gives a request: all stages answer it with what they loaded of the same folder contents."""
RESERVED_PREFIX = "stagemesh_"
META_PREFIX = "meta."
PIPELINE = ("preprocess", "infer", "postprocess")


class NoTarget(Unavailable):
    """A route passes a stage whose address this server was not told; its replicas were told no more."""

    default_reason = "NO_TARGET"
    elsewhere = False


def parse_route(value: object, own_stage: str) -> tuple[str, ...]:
    """The stages still to come after `own_stage`.

    Raises InvalidInput when the value is no string, names an unknown stage, or any stage twice.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"parameter {ROUTE}: expected a string, found {type(value).__name__}", reason="BAD_ROUTE")
    route = tuple(filter(None, value.split(",")))
    unknown = [stage for stage in route if stage not in PIPELINE]
    if unknown:
        raise InvalidInput(
            f"route '{value}' names unknown stage '{unknown[0]}', expected some of {', '.join(PIPELINE)}",
            reason="BAD_ROUTE",
        )
    if len({own_stage, *route}) != len(route) + 1:
        raise InvalidInput(
            f"route '{value}' after stage '{own_stage}' passes a stage twice, expected each at most once",
            reason="BAD_ROUTE",
        )
    return route


def split_meta(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A stage's own tensors, and the `meta.*` ones that travel past it untouched."""
    own = {name: t for name, t in tensors.items() if not name.startswith(META_PREFIX)}
    meta = {name: t for name, t in tensors.items() if name.startswith(META_PREFIX)}
    return own, meta


class Router:
    """Hands tensors to the next hops this server knows, by stage name."""

    def __init__(self, hops: Mapping[str, Hop]) -> None:
        self._hops = hops

    async def carry(self, route: Sequence[str], request: InferRequest) -> InferResponse:
        """Send `request` down a route of at least one stage; the answer of the last one.

        Raises NoTarget when a hop has no address, Unavailable when it can't be reached, and what a hop answered.
        """
        stage, *rest = route
        hop = self._hop(stage)
        if await hop.knows_routes():
            response = await hop.infer(_with_route(request, rest))
            if not rest or response.parameters.get(ROUTE_DONE):
                return response
            onward = response.outputs
        else:
            response, meta = await _infer_foreign(hop, request, last=not rest)
            onward = {**response.outputs, **meta}
        if not rest:
            return response
        return await self.carry(rest, replace(request, inputs=onward))

    def check(self, route: Sequence[str]) -> None:
        """Raise NoTarget where the next hop has no address, before anything is computed for a route."""
        self._hop(route[0])

    def _hop(self, stage: str) -> Hop:
        hop = self._hops.get(stage)
        if hop is None:
            raise NoTarget(f"next stage '{stage}' has no address here, expected STAGEMESH_{stage.upper()}_TARGET")
        return hop


def plain_parameters(request: InferRequest) -> dict[str, Parameter]:
    """The parameters that are not between stages alone."""
    return {k: v for k, v in request.parameters.items() if not k.startswith(RESERVED_PREFIX)}


def _with_route(request: InferRequest, rest: Sequence[str]) -> InferRequest:
    parameters = plain_parameters(request)
    if rest:
        parameters[ROUTE] = ",".join(rest)
    if GENERATION in request.parameters:
        parameters[GENERATION] = request.parameters[GENERATION]
    return replace(request, parameters=parameters)


async def _infer_foreign(hop: Hop, request: InferRequest, *, last: bool) -> tuple[InferResponse, dict[str, Tensor]]:
    """Call a server that knows neither routes nor `meta.*`; the meta tensors stay with the caller."""
    inputs, meta = split_meta(request.inputs)
    outputs = request.outputs if last else ()
    plain = replace(request, parameters=plain_parameters(request), inputs=inputs, outputs=outputs)
    return await hop.infer(plain), meta
