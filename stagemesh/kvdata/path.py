"""The data path: many values from and to Redis, pipelined over a few connections, each with its own outcome.

A path may be shared between threads; a call does its work in the thread that makes it. No failure of a server or a
value raises: each value ends as its bytes or as a Failure that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from types import TracebackType

from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.connection import ConnectionPool, Limits
from stagemesh.kvdata.failures import DataPathError, Failure, Reason
from stagemesh.kvdata.lane import Flow, Outcome, Transfer
from stagemesh.kvdata.resp import Redirect, get_request, set_request
from stagemesh.kvdata.route import Cluster, OneServer, Route
from stagemesh.kvdata.wire import Buffer

MAX_ROUNDS = 4

Read = memoryview | Failure
Written = Failure | None
Target = Callable[[int], memoryview]
"""Gives, by the value's index, the writable buffer of bytes that it is read to."""

Value = tuple[bytes, Sequence[Buffer]]
"""A key, and the pieces of its value, sent one after the other."""


class DataPath:
    """Reads and writes values. Close it, or use it as a context manager."""

    def __init__(self, route: Route, limits: Limits) -> None:
        self._route = route
        self._limits = limits

    @classmethod
    def to_server(cls, address: RedisAddress, limits: Limits | None = None) -> DataPath:
        """The path to one server. Nothing is connected yet."""
        limits = limits or Limits()
        return cls(OneServer(address, limits), limits)

    @classmethod
    def to_cluster(cls, seeds: Sequence[RedisAddress], limits: Limits | None = None) -> DataPath:
        """The path to a Redis Cluster that any of `seeds` belongs to. Nothing is connected yet."""
        limits = limits or Limits()
        return cls(Cluster(seeds, limits), limits)

    def get(self, keys: Sequence[bytes], size: int, target: Target) -> Generator[tuple[int, Read], None, None]:
        """Each value as it arrives, with its index in `keys`: the part of its buffer that it fills, or a Failure.

        `size` is the size to expect, in bytes. A buffer is asked for when its reply is about to be read, and is the
        caller's again once the outcome is given, so few buffers do for many values; a Failure leaves anything in it.
        Later values travel while one is looked at. Close the iterator to end early.
        """
        transfers = [Transfer(index, key, size, get_request(key), target) for index, key in enumerate(keys)]
        with closing(self._move(transfers)) as moved:
            for transfer, outcome in moved:
                yield transfer.index, Failure(Reason.PROTOCOL) if outcome is None else outcome

    def get_all(self, wanted: Sequence[tuple[bytes, memoryview]]) -> list[Read]:
        """The values of keys, each read to the buffer beside it: in that order the part that it fills, or a Failure."""
        size = max((buffer.nbytes for _, buffer in wanted), default=0)
        outcomes = dict(self.get([key for key, _ in wanted], size, lambda index: wanted[index][1]))
        return [outcomes[index] for index in range(len(wanted))]

    def put(self, values: Sequence[Value], expire_ms: int = 0) -> list[Written]:
        """SET each value, replacing what is there; None where that is done. With `expire_ms` Redis drops them then."""
        transfers = [_set(index, key, pieces, expire_ms) for index, (key, pieces) in enumerate(values)]
        outcomes = {transfer.index: outcome for transfer, outcome in self._move(transfers)}
        found = (outcomes[index] for index in range(len(values)))
        return [outcome if isinstance(outcome, Failure) else None for outcome in found]

    def close(self) -> None:
        """Close all connections; those in use when they come back."""
        self._route.close()

    def __enter__(self) -> DataPath:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _move(self, transfers: list[Transfer]) -> Generator[tuple[Transfer, memoryview | Failure | None], None, None]:
        """The outcome of each transfer, redirects followed."""
        for _ in range(MAX_ROUNDS):
            redirected: list[Transfer] = []
            with closing(self._round(transfers)) as moved:
                for transfer, outcome in moved:
                    if isinstance(outcome, Redirect):
                        redirected.append(replace(transfer, ask=outcome if outcome.ask else None))
                    else:
                        yield transfer, outcome
            if not redirected:
                return
            transfers = redirected
        for transfer in transfers:
            yield transfer, Failure(Reason.NOT_READY, f"redirected {MAX_ROUNDS} times")

    def _round(self, transfers: list[Transfer]) -> Generator[tuple[Transfer, Outcome], None, None]:
        shares, failed = self._split(transfers)
        flows: list[Flow] = []
        try:
            for pool, share in shares.items():
                try:
                    flows.append(Flow(pool, self._limits, share))
                except DataPathError as error:
                    self._route.doubt()
                    failed += ((transfer, error.failure) for transfer in share)
            yield from failed
            while any(flow.lanes for flow in flows):
                for flow in flows:
                    for transfer, outcome in flow.step():
                        yield transfer, outcome if type(outcome) is memoryview else self._learn(outcome, flow.pool)
        finally:
            for flow in flows:
                flow.end()

    def _split(
        self, transfers: list[Transfer]
    ) -> tuple[dict[ConnectionPool, list[Transfer]], list[tuple[Transfer, Outcome]]]:
        shares: dict[ConnectionPool, list[Transfer]] = {}
        failed: list[tuple[Transfer, Outcome]] = []
        try:
            self._route.refresh()
        except DataPathError as error:
            return {}, [(transfer, error.failure) for transfer in transfers]
        for transfer in transfers:
            try:
                shares.setdefault(self._route.pool_of(transfer), []).append(transfer)
            except DataPathError as error:
                failed.append((transfer, error.failure))
        return shares, failed

    def _learn(self, outcome: Outcome, pool: ConnectionPool) -> Outcome:
        """What an outcome says of the servers; a redirect that names no host means the one that answered."""
        if isinstance(outcome, Redirect):
            redirect = replace(outcome, host=outcome.host or pool.address.host)
            try:
                if not redirect.ask:
                    self._route.moved(redirect, pool)
            except DataPathError as error:
                return error.failure
            return redirect
        if isinstance(outcome, Failure) and outcome.reason in (Reason.UNREACHABLE, Reason.TIMEOUT, Reason.NOT_READY):
            self._route.doubt()
        return outcome


def _set(index: int, key: bytes, pieces: Sequence[Buffer], expire_ms: int) -> Transfer:
    size = sum(memoryview(piece).nbytes for piece in pieces)
    head, tail = set_request(key, size, expire_ms)
    return Transfer(index, key, size, head, body=pieces, tail=tail)
