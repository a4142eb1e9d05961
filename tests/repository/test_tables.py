"""TOML tables become dataclasses, or errors that say what was expected and found."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest

from stagemesh.errors import ConfigError
from stagemesh.tables import check_range, parse_table


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Keys:
    name: str
    ratio: float = 0.5
    count: int = 1
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    size: tuple[int, int] | None = None
    names: tuple[str, ...] = ()
    inner: Inner = Inner()
    extra: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_range("count", self.count, 1, 9)


def test_every_type_is_read() -> None:
    text = """
        name = "x"
        ratio = 2
        flag = true
        mode = "b"
        size = [3, 4]
        names = ["p", "q"]
        inner = { depth = 7 }
        extra = { gain = 1.5 }
    """
    keys = parse_table(Keys, tomllib.loads(text), "t")
    assert keys == Keys("x", 2.0, 1, True, "b", (3, 4), ("p", "q"), Inner(7), {"gain": 1.5})
    assert isinstance(keys.ratio, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.toml [s]: key 'name' is missing; expected a string"),
        ("nmae = 'x'", "m.toml [s]: unknown key 'nmae'; expected one of: name, ratio, count"),
        ("name = 3", "m.toml [s]: key 'name': expected a string, found 3"),
        ("name = 'x'\nratio = '1'", "key 'ratio': expected a number, found '1'"),
        ("name = 'x'\nratio = true", "key 'ratio': expected a number, found True"),
        ("name = 'x'\nratio = nan", "key 'ratio': expected a number, found nan"),
        ("name = 'x'\ncount = true", "key 'count': expected an integer, found True"),
        ("name = 'x'\ncount = 1.0", "key 'count': expected an integer, found 1.0"),
        ("name = 'x'\ncount = -4", "m.toml [s]: key 'count': expected 1 to 9, found -4"),
        ("name = 'x'\nflag = 1", "key 'flag': expected true or false, found 1"),
        ("name = 'x'\nmode = 'c'", "key 'mode': expected one of 'a', 'b', found 'c'"),
        ("name = 'x'\nmode = ['a']", "key 'mode': expected one of 'a', 'b', found ['a']"),
        ("name = 'x'\nsize = [1, 2, 3]", "key 'size': expected a list of 2, each item an integer, found [1, 2, 3]"),
        ("name = 'x'\nsize = 3", "key 'size': expected a list of 2, each item an integer, found 3"),
        ("name = 'x'\nnames = ['a', 1]", "key 'names'[1]: expected a string, found 1"),
        ("name = 'x'\nnames = 1979-05-27", "key 'names': expected a list, each item a string, found datetime"),
        ("name = 'x'\ninner = 1", "key 'inner': expected a table, found 1"),
        ("name = 'x'\n[inner]\ndeep = 1", "key 'inner': unknown key 'deep'"),
    ],
)
def test_errors_name_key_expected_and_found(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_table(Keys, tomllib.loads(text), "m.toml [s]")
    assert message in str(raised.value)
