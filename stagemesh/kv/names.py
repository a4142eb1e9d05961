"""Names inside keys: percent-encoded, so that none can pass for another one or hold a separator."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from stagemesh.errors import InvalidInput

MAX_NAME_BYTES = 255

_ESCAPED = re.compile(r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+")


def escape(name: str, where: str = "name") -> str:
    """`name` as UTF-8 in which every byte other than A-Z a-z 0-9 . _ ~ - is %XX, upper case.

    Raises InvalidInput, starting with `where`, for the empty name, for text that UTF-8 can't carry and for more
    than MAX_NAME_BYTES bytes.
    """
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{where}: expected text that UTF-8 can carry, got {name!r}") from error
    if not 0 < len(encoded) <= MAX_NAME_BYTES:
        raise InvalidInput(f"{where}: expected 1 to {MAX_NAME_BYTES} bytes of UTF-8, got {len(encoded)}")
    return quote(encoded, safe="")


def unescape(text: str, where: str = "name") -> str:
    """The name that `escape` made `text` of; InvalidInput, starting with `where`, for anything it can't have made."""
    name = ""
    if _ESCAPED.fullmatch(text):
        name = unquote_to_bytes(text).decode("utf-8", "replace")
    if not name or escape(name, where) != text:
        raise InvalidInput(f"{where}: expected a percent-encoded name, got {text[: MAX_NAME_BYTES * 3]!r}")
    return name
