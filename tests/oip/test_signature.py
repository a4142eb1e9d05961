"""check_inputs names the tensor, what was expected and what was found."""

from __future__ import annotations

import pytest

from stagemesh.errors import ConfigError, InvalidInput
from stagemesh.oip.signature import TensorSpec, check_inputs
from stagemesh.oip.tensors import Tensor

IMAGE = TensorSpec("image", "UINT8", (-1, -1, -1, 3))
SIZE = TensorSpec("size", "INT32", (-1, 2), optional=True)
SPECS = (IMAGE, SIZE)


def image(*shape: int, datatype: str = "UINT8") -> Tensor:
    return Tensor(datatype, shape, b"")


@pytest.mark.parametrize("batch", [1, 4])
def test_batch_size(batch: int) -> None:
    inputs = {"image": image(batch, 2, 2, 3)}
    assert check_inputs(inputs, SPECS, 4) == batch
    assert check_inputs(inputs | {"size": Tensor("INT32", (batch, 2), b"")}, SPECS, 4) == batch


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, r"missing input 'image': expected \['image', 'size \(optional\)'\], got \[\]"),
        ({"image": image(1, 2, 2, 3), "x": image(1)}, r"unexpected input 'x': expected .*, got \['image', 'x'\]"),
        ({"image": image(1, 2, 2, 3, datatype="FP32")}, "'image': expected datatype UINT8, got FP32"),
        ({"image": image(2, 2, 3)}, r"'image': expected shape \[-1, -1, -1, 3\], got \[2, 2, 3\]"),
        ({"image": image()}, r"expected shape .*, got \[\]"),
        ({"image": image(1, 2, 2, 4)}, r"expected shape .*, got \[1, 2, 2, 4\]"),
        ({"image": image(0, 2, 2, 3)}, "'image': expected a batch of 1 to 4, got 0"),
        ({"image": image(5, 2, 2, 3)}, "'image': expected a batch of 1 to 4, got 5"),
        (
            {"image": image(2, 2, 2, 3), "size": Tensor("INT32", (3, 2), b"")},
            "'size': expected a batch of 2 as of 'image', got 3",
        ),
    ],
)
def test_refused(inputs: dict[str, Tensor], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_inputs(inputs, SPECS, 4)


def test_a_model_of_optional_inputs_needs_one() -> None:
    with pytest.raises(InvalidInput, match=r"expected an input of \['size'\], got none"):
        check_inputs({}, [SIZE], 4)


@pytest.mark.parametrize(("datatype", "shape"), [("FLOAT", (-1,)), ("FP32", ()), ("FP32", (-1, -2))])
def test_specs_are_checked(datatype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="tensor 'x': expected"):
        TensorSpec("x", datatype, shape)
