"""Which server of a Redis Cluster has a key: CRC16 of the key, or of its hash tag, over 16,384 slots."""

from __future__ import annotations

from binascii import crc_hqx

from stagemesh.kvdata.failures import DataPathError, Reason
from stagemesh.kvdata.resp import Reply

SLOTS = 16384

Node = tuple[str, int]


def key_slot(key: bytes) -> int:
    """The slot of a key: of what stands between its first brace and the next closing one, unless that is empty."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    tag = key[start + 1 : end] if 0 <= start < end - 1 else key
    return crc_hqx(tag, 0) % SLOTS


def parse_slots(reply: Reply, asked: str) -> dict[int, Node]:
    """The master of each slot, from the reply of CLUSTER SLOTS by a server at host `asked`.

    Raises DataPathError for a refusal and for a reply of another form.
    """
    masters: dict[int, Node] = {}
    for entry in reply if isinstance(reply, list) else [None]:
        match entry:
            case [int(first), int(last), [bytes() | None as host, int(port), *_], *_] if 0 <= first <= last < SLOTS:
                node = (host.decode("utf-8", "replace") if host else asked, port)
                masters.update(dict.fromkeys(range(first, last + 1), node))
            case _:
                raise DataPathError(Reason.PROTOCOL, f"CLUSTER SLOTS: expected ranges of slots, found {reply!r:.200}")
    return masters
