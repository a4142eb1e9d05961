"""Each test of this folder starts outside of any call."""

from __future__ import annotations

import pytest

from stagemesh import logs
from stagemesh.rpc.context import call_context, call_model


@pytest.fixture(autouse=True)
def no_call() -> None:
    """Forget the call that a test before entered."""
    call_context.set(None)
    call_model.set("")
    logs.request_id.set("")
