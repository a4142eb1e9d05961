"""One node of a TensorFlow.js graph, as its JSON has it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from services.infer.engine.tfjs_weights import field
from stagemesh.errors import ConfigError

# TensorFlow.js computes every integer in 32 bits, whatever the graph says
DTYPES = {
    "DT_FLOAT": torch.float32,
    "DT_DOUBLE": torch.float32,
    "DT_HALF": torch.float32,
    "DT_INT32": torch.int32,
    "DT_INT64": torch.int32,
    "DT_INT16": torch.int32,
    "DT_INT8": torch.int32,
    "DT_UINT8": torch.int32,
    "DT_BOOL": torch.bool,
}
SOURCES = ("Const", "Placeholder", "NoOp")
"""Operations without inputs, which stand for weights and inputs."""
_CODES = {
    1: "DT_FLOAT",
    2: "DT_DOUBLE",
    3: "DT_INT32",
    4: "DT_UINT8",
    5: "DT_INT16",
    6: "DT_INT8",
    9: "DT_INT64",
    10: "DT_BOOL",
    19: "DT_HALF",
}


def dtype_of(code: object, what: str) -> torch.dtype:
    """The dtype of a TensorFlow type, by name or number. Raises ConfigError for one without numbers."""
    name = _CODES.get(code, code) if isinstance(code, int) else code
    if not isinstance(name, str) or name not in DTYPES:
        raise ConfigError(f"{what}: expected a type of {', '.join(DTYPES)}, found {code!r}")
    return DTYPES[name]


@dataclass(frozen=True, slots=True)
class TfNode:
    """A node: `inputs` without control edges, as tensor names; the getters raise ConfigError for a wrong type."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @classmethod
    def read(cls, entry: object, where: str) -> TfNode:
        """The node of a JSON object."""
        name = field(entry, "name", str, f"{where}: node")
        what = f"{where}: node '{name}'"
        assert isinstance(entry, Mapping)  # field() checked it
        inputs = field({"input": [], **entry}, "input", list, what)
        attributes = field({"attr": {}, **entry}, "attr", dict, what)
        if not all(isinstance(item, str) for item in inputs):
            raise ConfigError(f"{what}: expected inputs that are names, found {inputs!r}")
        names = tuple(item.removesuffix(":0") for item in inputs if not item.startswith("^"))
        return cls(name, field(entry, "op", str, what), names, attributes)

    def __str__(self) -> str:
        return f"node '{self.name}' ({self.op})"

    def input(self, index: int) -> str:
        """Input `index`, which may count from the end. Raises ConfigError where there is none."""
        try:
            return self.inputs[index]
        except IndexError:
            raise ConfigError(f"{self}: expected an input {index}, found {len(self.inputs)} inputs") from None

    def integer(self, name: str, default: int) -> int:
        """Attribute `name`, or `default` where it is absent."""
        return self._number(self._value(name, "i", default), name)

    def flag(self, name: str, default: bool = False) -> bool:
        """Attribute `name`, or `default` where it is absent."""
        return bool(self._value(name, "b", default))

    def real(self, name: str, default: float) -> float:
        """Attribute `name`, or `default` where it is absent."""
        value = self._value(name, "f", default)
        return float(value) if isinstance(value, (int, float)) else self._reject(name, "a number", value)

    def text(self, name: str, default: str) -> str:
        """Attribute `name`, or `default` where it is absent."""
        value = self._value(name, "s", None)
        return default if value is None else self._decoded(value, name)

    def integers(self, name: str) -> list[int]:
        """Attribute `name`, empty where it is absent."""
        return [self._number(item, name) for item in self._list(name, "i")]

    def texts(self, name: str) -> list[str]:
        """Attribute `name`, empty where it is absent."""
        return [self._decoded(item, name) for item in self._list(name, "s")]

    def dtype(self, name: str, default: str = "DT_FLOAT") -> torch.dtype:
        """Attribute `name`, or `default` where it is absent."""
        return dtype_of(self._value(name, "type", default), f"{self}: attribute '{name}'")

    def _value(self, name: str, kind: str, default: Any) -> Any:
        attribute = self.attributes.get(name)
        if attribute is None:
            return default
        # JSON of protobuf leaves out what has its default value
        return attribute.get(kind, default) if isinstance(attribute, Mapping) else self._reject(name, kind, attribute)

    def _list(self, name: str, kind: str) -> list[Any]:
        found = self._value(name, "list", {})
        items = found.get(kind, []) if isinstance(found, Mapping) else found
        return items if isinstance(items, list) else self._reject(name, "a list", items)

    def _number(self, value: Any, name: str) -> int:
        try:
            return int(value)
        except (TypeError, ValueError):
            return self._reject(name, "an integer", value)

    def _decoded(self, value: Any, name: str) -> str:
        try:
            return base64.b64decode(value, validate=True).decode()
        except (TypeError, ValueError, binascii.Error):
            return self._reject(name, "base64 text", value)

    def _reject(self, name: str, expected: str, found: object) -> NoReturn:
        raise ConfigError(f"{self}: attribute '{name}': expected {expected}, found {found!r}")
