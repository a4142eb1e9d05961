"""Servers that die, hang, refuse or talk nonsense: every value ends typed, and the next call is right again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from stagemesh.errors import ConfigError
from stagemesh.kvdata.address import RedisAddress
from stagemesh.kvdata.connection import Limits
from stagemesh.kvdata.failures import Failure, Reason
from stagemesh.kvdata.path import DataPath
from tests.kvdata.conftest import SHORT, as_user, read_all
from tests.support.redis_server import RedisServer, free_port, redis_server

VALUE = bytes(range(256)) * 4096
KEYS = [b"fault %d" % index for index in range(40)]


def fill(path: DataPath) -> None:
    assert path.put([(key, (key, VALUE)) for key in KEYS]) == [None] * len(KEYS)


def reasons(outcomes: list[object]) -> set[Reason]:
    return {outcome.reason for outcome in outcomes if isinstance(outcome, Failure)}


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_a_server_killed_in_the_middle_and_restarted(transport: str) -> None:
    with redis_server() as server:
        address = RedisAddress.parse(server.url if transport == "tcp" else server.unix_url)
        with DataPath.to_server(address, SHORT) as path:
            fill(path)
            size = len(VALUE) + 10
            reads = path.get(KEYS, size, lambda index: memoryview(bytearray(size)))
            outcomes: list[object] = [next(reads)]
            server.kill()
            outcomes += reads
            assert len(outcomes) == len(KEYS)
            assert reasons([outcome for _, outcome in outcomes]) == {Reason.UNREACHABLE}  # type: ignore[misc]
            assert reasons(read_all(path, KEYS, size)) == {Reason.UNREACHABLE}
            server.start()
            assert reasons(read_all(path, KEYS, size)) == {Reason.MISSING}
            fill(path)
            assert read_all(path, KEYS, size) == [key + VALUE for key in KEYS]


def test_a_restart_between_calls_goes_unnoticed() -> None:
    with redis_server() as server, DataPath.to_server(RedisAddress.parse(server.url), SHORT) as path:
        fill(path)
        server.kill()
        server.start()
        fill(path)


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_a_server_that_hangs_costs_the_timeout_and_corrupts_nothing(transport: str) -> None:
    with redis_server() as server:
        address = RedisAddress.parse(server.url if transport == "tcp" else server.unix_url)
        with DataPath.to_server(address, SHORT) as path:
            fill(path)
            size = len(VALUE) + 10
            reads = path.get(KEYS, size, lambda index: memoryview(bytearray(size)))
            next(reads)
            server.pause()
            started = time.monotonic()
            assert Reason.TIMEOUT in reasons([outcome for _, outcome in reads])
            assert time.monotonic() - started < 10
            server.resume()
            assert read_all(path, KEYS, size) == [key + VALUE for key in KEYS]


def test_an_answer_that_comes_too_late_is_never_taken_for_the_next() -> None:
    with redis_server() as server, DataPath.to_server(RedisAddress.parse(server.url), SHORT) as path:
        path.put([(b"early", (b"one",)), (b"later", (b"two",))])
        server.pause()
        assert reasons(read_all(path, [b"early"], 3)) == {Reason.TIMEOUT}
        resumed = threading.Timer(0.1, server.resume)
        resumed.start()
        outcome = read_all(path, [b"later"], 3)[0]
        assert outcome == b"two" or isinstance(outcome, Failure)
        resumed.join()


def test_nobody_there() -> None:
    for address in (RedisAddress(port=free_port()), RedisAddress(path="/nonexistent/redis.sock")):
        with DataPath.to_server(address, SHORT) as path:
            assert reasons(read_all(path, [b"x", b"y"], 10)) == {Reason.UNREACHABLE}
            written = path.put([(b"x", (b"1",))])
            assert written[0] is not None
            assert written[0].reason is Reason.UNREACHABLE


@pytest.mark.parametrize("user", ["kv:wrong", "nobody:x"])
def test_a_refused_sign_in_is_told_and_shows_no_password(tls_server: RedisServer, user: str) -> None:
    url = as_user(tls_server.url).replace("kv:p%40ss%20word%2F%25", user)
    with DataPath.to_server(RedisAddress.parse(url), SHORT) as path:
        outcome = read_all(path, [b"x"], 10)[0]
    assert isinstance(outcome, Failure)
    assert outcome.reason is Reason.DENIED
    assert "WRONGPASS" in outcome.detail
    assert "wrong" not in outcome.detail.replace("WRONGPASS", "")


def test_a_key_the_user_may_not_touch() -> None:
    with redis_server("--user", "few", "on", ">x", "~mine*", "+get", "+set") as server:
        url = server.url.replace("://", "://few:x@")
        with DataPath.to_server(RedisAddress.parse(url), SHORT) as path:
            written = path.put([(b"mine", (b"1",)), (b"yours", (b"2",)), (b"mine 2", (b"3",))])
            assert [outcome and outcome.reason for outcome in written] == [None, Reason.DENIED, None]


def test_tls_is_checked(tls_server: RedisServer, server: RedisServer) -> None:
    strange = as_user(tls_server.url).replace("localhost", "localhost.localdomain")
    for url in (f"rediss://localhost:{tls_server.port}", f"rediss://localhost:{server.port}", strange):
        with DataPath.to_server(RedisAddress.parse(url), SHORT) as path:
            assert reasons(read_all(path, [b"x"], 10)) <= {Reason.UNREACHABLE, Reason.TIMEOUT}
            assert reasons(read_all(path, [b"x"], 10))


@contextmanager
def talker(*pieces: bytes, pause_s: float = 0.0) -> Iterator[RedisAddress]:
    """A server that answers the first request of each connection with `pieces`, one by one, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer.recv(65536)
                for piece in pieces:
                    peer.sendall(piece)
                    time.sleep(pause_s)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with closing(listener):
        yield RedisAddress(port=listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def ask_talker(*pieces: bytes, keys: int = 3, pause_s: float = 0.0) -> list[object]:
    with talker(*pieces, pause_s=pause_s) as address, DataPath.to_server(address, Limits(lanes=1, timeout_s=2)) as path:
        return read_all(path, [b"k%d" % index for index in range(keys)], 7)


REPLIES = b"$7\r\nsevens!\r\n$-1\r\n$3\r\nabc\r\n$7\r\nagain!!\r\n-ERR no\r\n$0\r\n\r\n$7\r\n\r\n\r\n\r\n!\r\n"
EXPECTED = [
    b"sevens!",
    Failure(Reason.MISSING),
    b"abc",
    b"again!!",
    Failure(Reason.REFUSED, "ERR no"),
    b"",
    b"\r\n\r\n\r\n!",
]


@pytest.mark.parametrize("cut", range(1, len(REPLIES), 3))
def test_replies_may_be_cut_anywhere(cut: int) -> None:
    assert ask_talker(REPLIES[:cut], REPLIES[cut:], keys=7, pause_s=0.01) == EXPECTED


def test_replies_may_come_byte_by_byte() -> None:
    pieces = [REPLIES[index : index + 1] for index in range(len(REPLIES))]
    assert ask_talker(*pieces, keys=7, pause_s=0.0005) == EXPECTED


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"$abc\r\n",
        b"$-2x\r\n",
        b"$99999999999\r\n",
        b"$" + b"1" * 100 + b"\r\n",
        b"$\xff\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"*1\r\n$1\r\nx\r\n",
        b"$7\r\nsevens!xx",
        b"$3\r\nabcdef\r\n",
        b"\r\n",
        b"x" * 200_000,
        b"-MOVED x y\r\n",
        b"-MOVED\r\n",
    ],
)
def test_nonsense_is_a_protocol_failure(nonsense: bytes) -> None:
    outcomes = ask_talker(nonsense)
    assert reasons(outcomes) <= {Reason.PROTOCOL, Reason.UNREACHABLE}
    assert len(reasons(outcomes)) and not [outcome for outcome in outcomes if isinstance(outcome, bytes)]


@pytest.mark.parametrize("end", range(1, 11))
def test_a_connection_lost_within_a_reply_gives_no_value(end: int) -> None:
    outcomes = ask_talker(b"$7\r\nsevens!\r\n" + b"$7\r\nsevens!\r\n"[:end])
    assert outcomes[0] == b"sevens!"
    assert reasons(outcomes[1:]) == {Reason.UNREACHABLE}


def test_answers_nobody_waits_for_are_never_taken_for_the_next() -> None:
    pieces = (b"$7\r\nfirst..\r\n", b"$7\r\nsecond.\r\n")
    limits = Limits(lanes=1, timeout_s=5)
    with talker(*pieces, pause_s=0.2) as address, DataPath.to_server(address, limits) as path:
        buffer = memoryview(bytearray(7))
        reads = path.get([b"a", b"b"], 7, lambda index: buffer)
        assert next(reads) == (0, b"first..")
        reads.close()
        assert read_all(path, [b"c"], 7) == [b"first.."]


def test_a_cluster_node_reached_as_one_server_is_refused() -> None:
    outcomes = ask_talker(b"-MOVED 12182 127.0.0.1:1\r\n" * 3)
    assert reasons(outcomes) == {Reason.REFUSED}


@pytest.mark.parametrize(
    "url",
    ["http://x", "redis://h:99999", "redis://h:x", "unix://", "redis://h?a=1", "rediss://h?ssl=1", "redis://h/x", ""],
)
def test_a_bad_url_is_named_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="Redis URL: expected redis://"):
        RedisAddress.parse(url)


def test_an_address_never_shows_its_password() -> None:
    address = RedisAddress.parse("redis://user:secret@host:1/2")
    assert (address.username, address.password, address.host, address.port, address.db) == (
        "user",
        "secret",
        "host",
        1,
        2,
    )
    assert "secret" not in repr(address) + str(address)
    with pytest.raises(ConfigError) as caught:
        RedisAddress.parse("redis://user:secret@host:1/x")
    assert "secret" not in str(caught.value)


def test_bad_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match="lanes: expected a positive number, found 0"):
        Limits(lanes=0)
