"""One-line logs, for people or machines, each line with the request it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

request_id: ContextVar[str] = ContextVar("stagemesh_request_id", default="")
"""Id of the request served in this context; empty outside of one."""

# A message may quote what a client sent: a control character must neither end the line nor move the cursor.
_ONE_LINE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): " | ",
    ord("\r"): "",
    ord("\t"): " ",
    0x2028: " | ",
    0x2029: " | ",
}


class _Formatter(logging.Formatter):
    def __init__(self, stage: str, replica: str) -> None:
        super().__init__()
        self._stage = stage
        self.replica = replica

    @staticmethod
    def _time(record: logging.LogRecord) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def _trace(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class HumanFormatter(_Formatter):
    """`<time> <LEVEL> <stage>@<replica> [<request id>] <message>`, a traceback joined with bars."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the one line of `record`."""
        request = request_id.get()
        text = " | ".join(filter(None, (record.getMessage(), self._trace(record))))
        head = f"{self._time(record)} {record.levelname:<7} {self._stage}@{self.replica}"
        line = f"{head} [{request}] {text}" if request else f"{head} {text}"
        return line.translate(_ONE_LINE)


class JsonFormatter(_Formatter):
    """One JSON object a line: time, level, logger, stage, replica, message, request_id, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the one line of `record`."""
        entry = {
            "time": self._time(record),
            "level": record.levelname,
            "logger": record.name,
            "stage": self._stage,
            "replica": self.replica,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            "exception": self._trace(record),
        }
        return json.dumps({key: value for key, value in entry.items() if value})


def configure_logging(
    level: str, format: Literal["human", "json"], stage: str, replica: str, stream: TextIO | None = None
) -> None:
    """Send all logs of this process, from `level` up, to `stream` (standard error) in `format`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    formatter = JsonFormatter if format == "json" else HumanFormatter
    handler.setFormatter(formatter(stage, replica))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # asyncio reports each selector it opens at DEBUG, which is no news of ours.
    logging.getLogger("asyncio").setLevel(max(logging.INFO, root.level))


def rename_replica(replica: str) -> None:
    """Name this process's replica in the lines to come: where its port was to be a free one it is known late."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Formatter):
            handler.formatter.replica = replica
