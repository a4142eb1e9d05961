"""A DNS server for one name, over UDP, whose addresses a test can change."""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType

_TYPE_A = 1
_ANSWER_FLAGS = 0x8580
_NAME_POINTER = 0xC00C


class TinyDns:
    """Answers every A question with `addresses`, any other with nothing; `port` is on 127.0.0.1."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.questions = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> TinyDns:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._closed.is_set():
            try:
                query, sender = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            self._socket.sendto(self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        kind = struct.unpack_from("!H", query, end - 4)[0]
        addresses = self.addresses if kind == _TYPE_A else ()
        self.questions += kind == _TYPE_A
        head = query[:2] + struct.pack("!5H", _ANSWER_FLAGS, 1, len(addresses), 0, 0)
        records = (
            struct.pack("!HHHIH", _NAME_POINTER, _TYPE_A, 1, 0, 4) + socket.inet_aton(address) for address in addresses
        )
        return head + query[12:end] + b"".join(records)
