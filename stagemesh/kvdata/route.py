"""From keys to servers: all to one, or by the slot map of a Redis Cluster, which is learnt and kept up to date."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

from stagemesh.errors import ConfigError
from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.connection import ConnectionPool, Limits
from stagemesh.kvdata.failures import DataPathError, Reason
from stagemesh.kvdata.lane import Transfer
from stagemesh.kvdata.resp import Redirect
from stagemesh.kvdata.slots import Node, key_slot, parse_slots


class Route(ABC):
    """Finds the server of a transfer. Safe to share between threads."""

    @abstractmethod
    def refresh(self) -> None:
        """Learn the servers anew if there is doubt; DataPathError where none answers and nothing is known."""

    @abstractmethod
    def pool_of(self, transfer: Transfer) -> ConnectionPool:
        """The connections to the server that has the transfer's key; DataPathError where none is known."""

    @abstractmethod
    def moved(self, redirect: Redirect, source: ConnectionPool) -> None:
        """Learn from a MOVED that `source` answered; DataPathError where it makes no sense."""

    @abstractmethod
    def doubt(self) -> None:
        """A server is out of reach: what is known may be out of date."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""


class OneServer(Route):
    """Every key on the same server."""

    def __init__(self, address: RedisAddress, limits: Limits) -> None:
        self._pool = ConnectionPool(address, limits)

    def refresh(self) -> None:
        pass

    def pool_of(self, transfer: Transfer) -> ConnectionPool:
        return self._pool

    def moved(self, redirect: Redirect, source: ConnectionPool) -> None:
        raise DataPathError(
            Reason.REFUSED, f"{source.address} is one of a cluster: it sent slot {redirect.slot} elsewhere"
        )

    def doubt(self) -> None:
        pass

    def close(self) -> None:
        self._pool.close()


class Cluster(Route):
    """Each key on the master of its slot; `seeds` are the servers to ask first."""

    def __init__(self, seeds: Sequence[RedisAddress], limits: Limits) -> None:
        if not seeds:
            raise ConfigError("expected at least one address of the Redis Cluster, found none")
        self._limits = limits
        self._seeds = list(seeds)
        self._masters: dict[int, Node] = {}
        self._pools: dict[Node, ConnectionPool] = {}
        self._lock = threading.Lock()
        self._doubted = True

    def refresh(self) -> None:
        with self._lock:
            if self._doubted:
                self._learn()

    def pool_of(self, transfer: Transfer) -> ConnectionPool:
        with self._lock:
            if transfer.ask:
                return self._pool((transfer.ask.host, transfer.ask.port))
            slot = key_slot(transfer.key)
            if slot not in self._masters:
                self._doubted = True
                raise DataPathError(Reason.NOT_READY, f"no server of the cluster has slot {slot}")
            return self._pool(self._masters[slot])

    def moved(self, redirect: Redirect, source: ConnectionPool) -> None:
        with self._lock:
            self._masters[redirect.slot] = (redirect.host, redirect.port)
            self._doubted = True

    def doubt(self) -> None:
        with self._lock:
            self._doubted = True

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.close()

    def _pool(self, node: Node) -> ConnectionPool:
        if node not in self._pools:
            self._pools[node] = ConnectionPool(self._seeds[0].at(*node), self._limits)
        return self._pools[node]

    def _learn(self) -> None:
        """Ask servers for the map until one answers; where none does, the old map stays, if there is one."""
        known = [self._seeds[0].at(*node) for node in dict.fromkeys(self._masters.values())]
        last: DataPathError | None = None
        for address in dict.fromkeys([*known, *self._seeds]):
            try:
                masters = self._ask(address)
            except DataPathError as error:
                last = error
                continue
            # A server that has just lost its slots may answer before it knows who has them.
            if masters:
                self._adopt(masters)
                return
        if last is not None and not self._masters:
            raise last

    def _adopt(self, masters: dict[int, Node]) -> None:
        self._masters, self._doubted = masters, False
        for gone in set(self._pools) - set(masters.values()):
            self._pools.pop(gone).close()

    def _ask(self, address: RedisAddress) -> dict[int, Node]:
        pool = ConnectionPool(address, self._limits)
        connection = pool.borrow(1)[0]
        try:
            return parse_slots(connection.call("CLUSTER", "SLOTS"), address.host)
        finally:
            pool.discard(connection)
