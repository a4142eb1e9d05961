"""Parameters of the protocol (maps of InferParameter) from and to plain Python values."""

from __future__ import annotations

from collections.abc import Mapping

from stagemesh.errors import InvalidInput, Unsupported
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.tensors import Parameter

INT64_MAX = 2**63 - 1

# Tensor parameters that ask for a transfer or an answer of another kind.
_REFUSED = {
    "shared_memory_region": "shared memory",
    "shared_memory_byte_size": "shared memory",
    "shared_memory_offset": "shared memory",
    "classification": "the classification extension",
}


def read_parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Parameter]:
    """The values of a parameters map; InvalidInput for one without a value."""
    return {name: _read(name, parameter) for name, parameter in parameters.items()}


def _read(name: str, parameter: pb.InferParameter) -> Parameter:
    choice = parameter.WhichOneof("parameter_choice")
    if choice is None:
        raise InvalidInput(f"parameter {name!r}: expected a bool, int64, string, double or uint64, got no value")
    value: Parameter = getattr(parameter, choice)
    return value


def write_parameters(target: Mapping[str, pb.InferParameter], parameters: Mapping[str, Parameter]) -> None:
    """Fills a message's parameters, an int above int64 as uint64; InvalidInput for what none can carry."""
    for name, value in parameters.items():
        try:
            setattr(target[name], _choice(name, value), value)
        except ValueError as error:
            raise InvalidInput(f"parameter {name!r}: {error}, got {value!r}") from error


def _choice(name: str, value: Parameter) -> str:
    match value:
        case bool():
            return "bool_param"
        case int():
            return "uint64_param" if value > INT64_MAX else "int64_param"
        case float():
            return "double_param"
        case str():
            return "string_param"
    raise InvalidInput(f"parameter {name!r}: expected a bool, int, float or str, got {type(value).__name__}")


def refuse_tensor_parameters(parameters: Mapping[str, pb.InferParameter], where: str) -> None:
    """Raises Unsupported, its message starting with `where`, for shared memory and classification."""
    for name in parameters:
        if name in _REFUSED:
            raise Unsupported(f"{where}: {_REFUSED[name]} ({name}) is not offered, send and ask for plain contents")
