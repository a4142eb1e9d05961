"""From a TOML table to a frozen dataclass: every key known, every value of the declared type.

A dataclass is the one place where keys, types and defaults of a table are written. Understood field types: bool,
int, float, str, Literal, tuple[T, ...], tuple[T, T], Mapping[str, T], a nested dataclass, and unions with None.
Range checks belong into `__post_init__`, which raises ValueError naming the key.
"""

from __future__ import annotations

import math
import types
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from reprlib import repr as short
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from stagemesh.errors import ConfigError

T = TypeVar("T")

_NOUNS: dict[object, str] = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


def parse_table(cls: type[T], table: Mapping[str, object], where: str) -> T:
    """Build `cls`, a dataclass, from `table`; `where` names file and table in messages.

    Raises ConfigError naming the key, what was expected and what was found.
    """
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}: unknown key '{key}'; expected one of: {', '.join(known) or 'no keys'}")
    for name, field in known.items():
        if name not in table and _required(field):
            raise ConfigError(f"{where}: key '{name}' is missing; expected {_describe(hints[name])}")
    values = {key: _convert(value, hints[key], f"{where}: key '{key}'") for key, value in table.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def check_range(key: str, value: float, low: float, high: float) -> None:
    """For `__post_init__`: raise ValueError naming `key` unless low <= value <= high."""
    if not low <= value <= high:
        raise ValueError(f"key '{key}': expected {low} to {high}, found {value}")


def check_unused(options: Any, keys: Collection[str], why: str) -> None:
    """For `__post_init__`: raise ValueError with `why` where one of `keys` of a dataclass has not its default."""
    for field in fields(options):
        if field.name in keys and getattr(options, field.name) != field.default:
            raise ValueError(f"key '{field.name}': {why}")


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _convert(value: object, hint: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, hint, where)
    if origin is Literal and isinstance(value, str | int) and value in args:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return _convert_tuple(value, hint, where)
    if _is_mapping(hint) and isinstance(value, Mapping):
        return {key: _convert(item, args[1], f"{where}.{key}") for key, item in value.items()}
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, Mapping):
        return parse_table(hint, value, where)
    if hint in _NOUNS and _fits(value, hint):
        return hint(value)
    raise ConfigError(f"{where}: expected {_describe(hint)}, found {short(value)}")


def _fits(value: object, hint: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is hint  # bool is a subclass of int, and must not pass for one


def _convert_union(value: object, hint: Any, where: str) -> Any:
    for member in get_args(hint):
        if member is type(None):
            continue
        try:
            return _convert(value, member, where)
        except ConfigError:
            continue
    raise ConfigError(f"{where}: expected {_describe(hint)}, found {short(value)}")


def _convert_tuple(value: list[Any] | tuple[Any, ...], hint: Any, where: str) -> tuple[Any, ...]:
    args = get_args(hint)
    if args[-1] is Ellipsis:
        args = args[:1] * len(value)
    if len(args) != len(value):
        raise ConfigError(f"{where}: expected {_describe(hint)}, found {short(value)}")
    return tuple(_convert(item, arg, f"{where}[{i}]") for i, (item, arg) in enumerate(zip(value, args, strict=True)))


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _describe(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(arg) for arg in args if arg is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(repr(arg) for arg in args)
    if origin is tuple and args[-1] is Ellipsis:
        return f"a list, each item {_describe(args[0])}"
    if origin is tuple:
        return f"a list of {len(args)}, each item {_describe(args[0])}"
    if _is_mapping(hint) or is_dataclass(hint):
        return "a table"
    return _NOUNS.get(hint, f"a value of type {hint}")
