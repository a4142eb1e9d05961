"""Log lines: one a record whatever is logged, with stage, replica and request."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Literal

import pytest

from stagemesh.logs import configure_logging, request_id

log = logging.getLogger("stagemesh.test")


@pytest.fixture(autouse=True)
def restored_root() -> Iterator[None]:
    """Give the other tests their handlers back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    token = request_id.set("")
    yield
    request_id.reset(token)
    root.handlers[:] = handlers
    root.setLevel(level)


def configured(format: Literal["human", "json"], level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, format, "infer", "h:8021", stream)
    return stream


def test_a_human_line() -> None:
    stream = configured("human")
    log.info("loaded %s", "classify")
    request_id.set("r-1")
    log.warning("slow")
    first, second = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00 INFO    infer@h:8021 loaded classify", first)
    assert second.endswith(" WARNING infer@h:8021 [r-1] slow")


def test_a_json_line() -> None:
    stream = configured("json")
    request_id.set("r-1")
    log.info("a\n%s", "ü")
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "INFO",
        "logger": "stagemesh.test",
        "stage": "infer",
        "replica": "h:8021",
        "message": "a\nü",
        "request_id": "r-1",
    }


@pytest.mark.parametrize("format", ["human", "json"])
def test_a_traceback_and_hostile_text_stay_on_one_line(format: Literal["human", "json"]) -> None:
    stream = configured(format)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("failed: %s", "x\r\n\x1b[31mred\u2028y\x85z")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert "ValueError: two" in text
    assert "test_logs.py" in text


def test_level_and_repeated_configuration() -> None:
    first = configured("human", "debug")
    second = configured("human", "warning")
    log.info("quiet")
    log.error("loud")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1
