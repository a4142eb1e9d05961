"""The blocks of one model in the pool: matched, read, shared between readers, and put."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from types import TracebackType

from stagemesh.client import kv_calls
from stagemesh.client.kv import KvClient
from stagemesh.client.kv_calls import Missed, Prefix, Put
from stagemesh.client.kv_reading import Reads, Target, read_blocks
from stagemesh.client.kv_writing import Blocks, write_blocks
from stagemesh.errors import ConfigError, Overloaded
from stagemesh.kv.block import BlockSpec
from stagemesh.kv.keys import Link
from stagemesh.kvdata.arena import Arena, Slot
from stagemesh.kvdata.single_flight import SingleFlight
from stagemesh.v1 import kvstore_pb2 as pb

MEMORY_BYTES = 256 << 20
MEMORY_FULL = "memory_full"


class Held:
    """A block in the memory that all readers of a KvBlocks share: `payload` is valid until `release`."""

    def __init__(self, slot: Slot, payload: memoryview) -> None:
        self.payload = payload.toreadonly()
        self._slot = slot

    def share(self) -> None:
        """Count one user more."""
        self._slot.share()

    def release(self) -> None:
        """Count one user less; ValueError where none is left."""
        self._slot.release()

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class KvBlocks:
    """Blocks of `spec` for one tenant and model. Safe to share between threads.

    `memory_bytes` bounds what `fetch` holds for all its callers; it is taken at the first fetch.
    """

    def __init__(
        self,
        client: KvClient,
        spec: BlockSpec,
        *,
        tenant: str = "default",
        model: str = "",
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Raises ConfigError where not one block fits in the memory."""
        if memory_bytes < spec.value_size:
            raise ConfigError(f"memory_bytes: expected at least {spec.value_size} for one block, found {memory_bytes}")
        self.client = client
        self.spec = spec
        self._tenant = tenant
        self._model = model
        self._slots = memory_bytes // spec.value_size
        self._lock = threading.Lock()
        self._arena: Arena | None = None
        self._flights: SingleFlight[str, Held | Missed] = SingleFlight(_share)

    def match(self, links: Sequence[Link], lease_ms: int = 0) -> Prefix:
        """The longest prefix of a chain that the pool has, lent for `lease_ms` where that isn't 0.

        Raises stagemesh errors.
        """
        return self.client.run(kv_calls.match(self.spec.fingerprint, links, lease_ms))

    def get(self, prefix: Prefix, target: Target) -> Reads:
        """Each block as it arrives, with its index: its payload, verified, or Missed.

        `target` gives a buffer of at least `spec.value_size` bytes for an index, used as DataPath.get uses it; the
        payload is a view into it. Failures of the pool never raise. Close the iterator to end early.
        """
        return read_blocks(self.client, self.spec, prefix, target)

    def fetch(self, prefix: Prefix) -> list[Held | Missed]:
        """All blocks, in memory that is shared: a block that another caller is fetching now is fetched once.

        Release each Held. A block there is no memory for is Missed, reason memory_full.
        """
        keys = [f"{link.chain.hex()}/{token}" for link, token in zip(prefix.links, prefix.tokens, strict=True)]
        joined = [self._flights.join(key) for key in keys]
        led = [index for index, (_, leads) in enumerate(joined) if leads]
        self._lead(prefix, {index: keys[index] for index in led})
        return _all([future for future, _ in joined])

    def put(self, blocks: Blocks, *, after: bytes = b"", lease: str = "", pinned: bool = False) -> list[Put]:
        """Put blocks of one chain, link and payload each, the first after block `after`, b"" at the chain's start.

        Returns what became of each; a repetition does no harm. Under a lease they stay at least as long as it lives.
        Raises stagemesh errors: RemoteFailure of reason LEASE_LOST, of KV_REDIS_FULL, …
        """
        plan = pb.PutPlan(
            fingerprint=self.spec.fingerprint,
            chains=[link.chain for link, _ in blocks],
            sizes=[self.spec.value_size] * len(blocks),
            parent=after,
            tenant=self._tenant,
            model=self._model,
            lease=lease,
            pinned=pinned,
        )
        return write_blocks(self.client, self.spec, plan, blocks)

    def _lead(self, prefix: Prefix, led: dict[int, str]) -> None:
        """Fetch what no one else fetches; every flight ends, whatever happens."""
        slots: dict[int, Slot] = {}
        try:
            for index in tuple(led):
                try:
                    slots[index] = self._memory().take()
                except Overloaded as error:
                    self._flights.land(led.pop(index), Missed(MEMORY_FULL, str(error)))
            indices = list(led)
            if not indices:
                return
            with closing(self.get(prefix.part(indices), lambda at: slots[indices[at]].view)) as reads:
                for at, read in reads:
                    index = indices[at]
                    slot = slots.pop(index)
                    if isinstance(read, Missed):
                        slot.release()
                    self._flights.land(led.pop(index), Held(slot, read) if isinstance(read, memoryview) else read)
        except BaseException as error:
            for key in led.values():
                self._flights.fail(key, error)
            raise
        finally:
            for slot in slots.values():
                slot.release()

    def _memory(self) -> Arena:
        with self._lock:
            if self._arena is None:
                self._arena = Arena(self.spec.value_size, self._slots)
            return self._arena


def _share(block: Held | Missed) -> None:
    if isinstance(block, Held):
        block.share()


def _all(futures: Sequence[Future[Held | Missed]]) -> list[Held | Missed]:
    """What the flights gave; where one failed, the others' blocks are released."""
    found: list[Held | Missed] = []
    try:
        for future in futures:
            found.append(future.result())
    except BaseException:
        for future in futures[len(found) :]:
            future.add_done_callback(_release)
        for block in found:
            if isinstance(block, Held):
                block.release()
        raise
    return found


def _release(future: Future[Held | Missed]) -> None:
    if not future.cancelled() and future.exception() is None and isinstance(block := future.result(), Held):
        block.release()
