"""The context of a call: what is taken from a client's metadata, the time left, what goes on."""

from __future__ import annotations

import contextvars
import time

import pytest

from stagemesh import logs
from stagemesh.errors import DeadlineExceeded
from stagemesh.rpc.context import (
    CallContext,
    Identity,
    call_context,
    call_model,
    enter_call,
    outgoing_metadata,
    remaining,
)
from stagemesh.settings import ServiceSettings


@pytest.mark.parametrize("value", ["r-1", "with space", "x" * 128])
def test_a_fit_request_id_is_kept(value: str) -> None:
    assert enter_call([("x-request-id", value)], None).request_id == value
    assert logs.request_id.get() == value


@pytest.mark.parametrize("value", ["", "x" * 129, "tab\there", "line\nbreak", "é", "\x7f", b"bytes"])
def test_an_unfit_request_id_is_replaced(value: str | bytes) -> None:
    made = enter_call([("x-request-id", value)], None).request_id
    assert len(made) == 32
    assert made != enter_call([("x-request-id", value)], None).request_id


def test_an_unfit_traceparent_is_dropped() -> None:
    call = enter_call([("traceparent", "00-\n"), ("x-request-id", "r")], None)
    assert call.traceparent == ""
    assert outgoing_metadata() == (("x-request-id", "r"),)


def test_remaining_time() -> None:
    assert remaining(3.0) == 3.0
    call_context.set(CallContext("r"))
    assert remaining(3.0) == 3.0
    call_context.set(CallContext("r", deadline=time.monotonic() + 1))
    assert 0.5 < remaining(3.0) <= 1.0
    call_context.set(CallContext("r", deadline=time.monotonic() - 1))
    with pytest.raises(DeadlineExceeded, match="ran out"):
        remaining(3.0)


def test_outside_of_a_call_nothing_is_passed_on() -> None:
    assert outgoing_metadata() == ()


def test_a_new_call_forgets_the_model_of_the_one_before() -> None:
    def run() -> str:
        call_model.set("classify")
        enter_call([], None)
        return call_model.get()

    assert contextvars.copy_context().run(run) == ""


def test_identity_of_settings() -> None:
    assert Identity.of(ServiceSettings(port=9)) == Identity("stage", "127.0.0.1:9")
    assert Identity.of(ServiceSettings(replica="a")).replica == "a"
    assert not Identity.of(ServiceSettings(host="0.0.0.0", port=9)).replica.startswith("0.0.0.0")
