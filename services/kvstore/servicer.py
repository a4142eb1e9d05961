"""KVStoreService over the pool: convert, call, convert back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from services.kvstore.answers import chosen_by, encode_block, encode_outcomes, encode_stats
from services.kvstore.index import Outcome
from services.kvstore.pool import Pool
from services.kvstore.putting import Putting
from services.kvstore.requests import Requests, wanted
from services.kvstore.settings import KvStoreSettings
from services.kvstore.values import Lost
from stagemesh.errors import InvalidInput, StagemeshError
from stagemesh.kv.keys import chain_root, tenant_salt
from stagemesh.kvrpc.service import METHODS
from stagemesh.kvrpc.wire import miss_response, read_put_request, value_frame
from stagemesh.rpc.context import call_model
from stagemesh.v1 import kvstore_pb2 as pb


class KvStoreServicer:
    """What the service answers. Methods raise StagemeshError, mapped by an interceptor."""

    def __init__(self, pool: Pool, settings: KvStoreSettings) -> None:
        """Raises ConfigError for a secret that can't be read."""
        self._pool = pool
        self._metrics = pool.metrics
        self._requests = Requests(settings)
        self._secret = settings.tenant_secret()
        self._namespace = settings.kv_namespace
        direct = settings.redis_direct_url
        self._place = pb.DataPlace(namespace=settings.namespace(), redis_url=direct, cluster=settings.redis_cluster)
        if not direct:
            self._place.Clear()

    def behaviours(self) -> Mapping[str, Callable[..., Any]]:
        """What serves each method, timed."""
        return {name: self._timed(name, getattr(self, name.lower()), method) for name, method in METHODS.items()}

    async def match(self, request: pb.MatchRequest) -> pb.MatchResponse:
        keys = self._requests.keys(request.fingerprint, request.chains)
        match = await self._pool.match(keys, self._requests.lease_ms(request.lease_ms))
        return pb.MatchResponse(
            tokens=[block.token for block in match.blocks],
            sizes=[block.size for block in match.blocks],
            lease=match.lease,
            miss_reason=match.missing,
            place=self._place,
        )

    async def get(self, request: pb.GetRequest) -> AsyncIterator[bytes]:
        blocks = self._requests.reservations(request)
        sizes = self._requests.sizes(request.sizes, blocks)
        places = [self._pool.place(block.key, block.token) for block in blocks]
        sent = 0
        try:
            async with aclosing(self._pool.read(wanted(blocks, sizes, places), value_frame)) as outcomes:
                async for outcome in outcomes:
                    if isinstance(outcome, Lost):
                        yield miss_response(outcome.wanted.index, outcome.reason, outcome.detail)
                    else:
                        sent += len(outcome)
                        yield outcome
        finally:
            self._metrics.moved("out", "service", sent)

    async def put(self, requests: AsyncIterator[bytes]) -> pb.PutResponse:
        putting: Putting | None = None
        try:
            async for data in requests:
                part = read_put_request(data)
                if putting is not None and isinstance(part, memoryview):
                    await putting.add(part)
                elif putting is None and isinstance(part, pb.PutPlan):
                    putting = await self._begin(part)
                else:
                    raise InvalidInput("expected one plan, then values; found them in another order")
            if putting is None:
                raise InvalidInput("expected a plan, found the end of the stream")
            outcomes = await putting.commit()
        except BaseException as error:  # a cancellation too must give the reservations back
            if putting is not None:
                await _to_the_end(putting.abort(error.reason if isinstance(error, StagemeshError) else "CANCELLED"))
            raise
        return pb.PutResponse(outcomes=encode_outcomes(outcomes))

    async def reserve(self, request: pb.ReserveRequest) -> pb.ReserveResponse:
        call_model.set(request.plan.model)
        reservations = await self._pool.reserve(self._requests.plan(request.plan))
        return pb.ReserveResponse(
            outcomes=encode_outcomes([each.outcome for each in reservations]),
            tokens=[each.token for each in reservations],
            expire_ms=self._pool.limits.reserve_ms,
            place=self._place,
        )

    async def commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        reservations = self._requests.reservations(request)
        sizes = self._requests.sizes(request.sizes, reservations)
        outcomes = await self._pool.commit(reservations, sizes)
        done = zip(outcomes, sizes, strict=True)
        self._metrics.moved("in", "direct", sum(size for outcome, size in done if outcome is Outcome.COMMITTED))
        return pb.CommitResponse(outcomes=encode_outcomes(outcomes))

    async def revoke(self, request: pb.RevokeRequest) -> pb.RevokeResponse:
        self._metrics.aborted("REVOKED")
        return pb.RevokeResponse(
            outcomes=encode_outcomes(await self._pool.revoke(self._requests.reservations(request)))
        )

    async def report(self, request: pb.ReportRequest) -> pb.ReportResponse:
        blocks = self._requests.reservations(request)
        self._metrics.moved("out", "direct", request.bytes_read)
        return pb.ReportResponse(dropped=await self._pool.check(blocks, request.reasons))

    async def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        await self._pool.renew(self._requests.lease(request.lease), self._requests.lease_ms(request.lease_ms))
        return pb.RenewResponse()

    async def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        return pb.ReleaseResponse(held=await self._pool.release(self._requests.lease(request.lease)))

    async def pin(self, request: pb.PinRequest) -> pb.PinResponse:
        (key,) = self._requests.keys(request.fingerprint, [request.chain])
        return pb.PinResponse(found=await self._pool.pin(key, request.pinned))

    async def stats(self, request: pb.StatsRequest) -> pb.StatsResponse:
        return encode_stats(await self._pool.stats(), self._namespace, self._pool.limits.capacity)

    async def purge(self, request: pb.PurgeRequest) -> pb.PurgeResponse:
        if not request.tenant and not request.model:
            raise InvalidInput("expected a tenant or a model to purge, found neither")
        return pb.PurgeResponse(blocks=await self._pool.purge(request.tenant, request.model))

    async def list(self, request: pb.ListRequest) -> AsyncIterator[pb.ListResponse]:
        left = request.limit or None
        chosen = partial(chosen_by, request.tenant, request.model)
        async with aclosing(self._pool.listing(chosen)) as pieces:
            async for piece in pieces:
                yield pb.ListResponse(blocks=[encode_block(block) for block in piece[:left]])
                if left is not None and (left := left - len(piece)) <= 0:
                    return

    async def _begin(self, message: pb.PutPlan) -> Putting:
        call_model.set(message.model)
        plan = self._requests.plan(message)
        root = b""
        if self._secret and not plan.parent:
            root = chain_root(message.fingerprint, tenant_salt(self._secret, plan.tenant))
        return Putting(self._pool, plan, root, await self._pool.reserve(plan))

    def _timed(self, name: str, method: Callable[..., Any], kind: Any) -> Callable[..., Any]:
        async def unary(request: Any, _: object) -> Any:
            with self._metrics.timed(name):
                return await method(request)

        async def stream(request: Any, _: object) -> AsyncIterator[Any]:
            with self._metrics.timed(name):
                async with aclosing(method(request)) as responses:
                    async for response in responses:
                        yield response

        return stream if kind.streams_responses else unary


async def _to_the_end(work: Any) -> None:
    """Run it, also where the caller is cancelled once more."""
    await asyncio.shield(asyncio.create_task(work))
