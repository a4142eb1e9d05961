"""Single-flight: of those who want the same thing at the same time one fetches it, the others wait for the result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Flights by key. Safe to share between threads; asyncio code awaits a future with asyncio.wrap_future.

    `share` is called once for each follower, before anyone gets the value, to hand out a value that is counted.
    """

    def __init__(self, share: Callable[[V], object] = lambda value: None) -> None:
        self._share = share
        self._lock = threading.Lock()
        self._flights: dict[K, tuple[Future[V], list[Future[V]]]] = {}

    def join(self, key: K) -> tuple[Future[V], bool]:
        """A future of the value, and whether the caller leads: a leader must end with `land` or `fail`."""
        with self._lock:
            future: Future[V] = Future()
            if key in self._flights:
                self._flights[key][1].append(future)
                return future, False
            future.set_running_or_notify_cancel()
            self._flights[key] = (future, [])
            return future, True

    def land(self, key: K, value: V) -> None:
        """The leader has the value: the flight is over, everybody gets it but followers who have given up."""
        lead, followers = self._end(key)
        waiting = [follower for follower in followers if follower.set_running_or_notify_cancel()]
        for _ in waiting:
            self._share(value)
        for future in (lead, *waiting):
            future.set_result(value)

    def fail(self, key: K, error: BaseException) -> None:
        """The leader could not get it: the flight is over, everybody gets the error."""
        lead, followers = self._end(key)
        lead.set_exception(error)
        for follower in followers:
            if follower.set_running_or_notify_cancel():
                follower.set_exception(error)

    def do(self, key: K, fetch: Callable[[], V]) -> V:
        """`fetch()`, or the value of the one who is fetching already; whatever that raises."""
        future, leads = self.join(key)
        if leads:
            try:
                self.land(key, fetch())
            except BaseException as error:
                self.fail(key, error)
        return future.result()

    def _end(self, key: K) -> tuple[Future[V], list[Future[V]]]:
        with self._lock:
            return self._flights.pop(key)
