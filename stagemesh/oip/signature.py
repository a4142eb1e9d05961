"""What a model takes and gives, and the check of a request's inputs against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stagemesh.errors import ConfigError, InvalidInput
from stagemesh.oip.datatypes import DATATYPES
from stagemesh.oip.tensors import Tensor


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output: `shape` starts with the batch dimension, -1 stands for any size.

    Raises ConfigError for an unknown datatype, a shape without dimensions and a dimension below -1.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False

    def __post_init__(self) -> None:
        if self.datatype not in DATATYPES:
            raise ConfigError(f"tensor {self.name!r}: expected a datatype of {list(DATATYPES)}, got {self.datatype!r}")
        if not self.shape or min(self.shape) < -1:
            raise ConfigError(
                f"tensor {self.name!r}: expected a batch dimension and none below -1, got {list(self.shape)}"
            )


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def check_inputs(inputs: Mapping[str, Tensor], specs: Sequence[TensorSpec], max_batch: int) -> int:
    """The batch size of `inputs`, which is the same for all and from 1 to `max_batch`.

    Raises InvalidInput naming the tensor, what was expected and what was found: one missing or not known,
    another datatype, rank or dimension, an empty, too large or unequal batch.
    """
    _check_names(inputs, specs)
    batch, first = 0, ""
    for spec in specs:
        tensor = inputs.get(spec.name)
        if tensor is None:
            continue
        _check_tensor(tensor, spec)
        size = tensor.shape[0]
        if not 1 <= size <= max_batch:
            raise InvalidInput(f"input {spec.name!r}: expected a batch of 1 to {max_batch}, got {size}")
        if batch and size != batch:
            raise InvalidInput(f"input {spec.name!r}: expected a batch of {batch} as of {first!r}, got {size}")
        batch, first = size, first or spec.name
    if not batch:
        raise InvalidInput(f"expected an input of {[spec.name for spec in specs]}, got none")
    return batch


def _check_names(inputs: Mapping[str, Tensor], specs: Sequence[TensorSpec]) -> None:
    known = {spec.name for spec in specs}
    extra = [name for name in inputs if name not in known]
    missing = [spec.name for spec in specs if not spec.optional and spec.name not in inputs]
    if extra or missing:
        problem = f"unexpected input {extra[0]!r}" if extra else f"missing input {missing[0]!r}"
        expected = [f"{spec.name} (optional)" if spec.optional else spec.name for spec in specs]
        raise InvalidInput(f"{problem}: expected {expected}, got {list(inputs)}")


def _check_tensor(tensor: Tensor, spec: TensorSpec) -> None:
    if tensor.datatype != spec.datatype:
        raise InvalidInput(f"input {spec.name!r}: expected datatype {spec.datatype}, got {tensor.datatype}")
    fits = len(tensor.shape) == len(spec.shape) and all(
        expected in (-1, found) for expected, found in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(f"input {spec.name!r}: expected shape {list(spec.shape)}, got {list(tensor.shape)}")
