"""Inference requests and responses, and their codec.

Raw contents, which make up nearly all of a message, never pass through protobuf: decoding finds them on the
wire and keeps views into the received bytes, encoding appends them to the rest. The bytes are those that
protobuf would write, and fields are read in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.message import DecodeError, Message

from stagemesh.errors import InvalidInput
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.contents import raw_contents
from stagemesh.oip.parameters import read_parameters, refuse_tensor_parameters, write_parameters
from stagemesh.oip.tensors import Parameter, Tensor
from stagemesh.oip.wire import encodable, join_message, split_message

_RAW_INPUTS = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_RAW_OUTPUTS = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
MAX_HEADER = 32 << 20
"""Bytes of a request beside its raw contents: protobuf parses them in one go, at about 0.1 s for 16 MiB of numbers."""

_ERROR = pb.ModelStreamInferResponse.ERROR_MESSAGE_FIELD_NUMBER
_RESPONSE = pb.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER

_WireTensor = pb.ModelInferRequest.InferInputTensor | pb.ModelInferResponse.InferOutputTensor
_WireTensors = (
    RepeatedCompositeFieldContainer[pb.ModelInferRequest.InferInputTensor]
    | RepeatedCompositeFieldContainer[pb.ModelInferResponse.InferOutputTensor]
)
_Message = pb.ModelInferRequest | pb.ModelInferResponse


@dataclass(slots=True)
class InferRequest:
    """A ModelInferRequest; `outputs` names those wanted, none for all."""

    model_name: str
    inputs: dict[str, Tensor]
    model_version: str = ""
    id: str = ""
    parameters: dict[str, Parameter] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The message's bytes; InvalidInput for a value that the protocol can't carry and above 2 GiB - 1."""
        message = pb.ModelInferRequest()
        with _values_checked(message):
            _write_header(message, self)
            _write_tensors(message.inputs, self.inputs, "input")
            for name in self.outputs:
                message.outputs.add().name = name
        raws = (tensor.raw for tensor in self.inputs.values())
        return join_message(message.SerializeToString(), _RAW_INPUTS, raws)

    @classmethod
    def decode(cls, data: bytes) -> InferRequest:
        """The request, its tensors views into `data`.

        Raises InvalidInput for anything malformed, Unsupported for shared memory and classification.
        """
        header, entries = split_request(data)
        return cls.read(parse_request(header), entries)

    @classmethod
    def read(cls, message: pb.ModelInferRequest, entries: list[memoryview]) -> InferRequest:
        """The request of a message whose raw contents are `entries`; raises as `decode` does."""
        for output in message.outputs:
            refuse_tensor_parameters(output.parameters, f"output {output.name!r}")
        return cls(
            message.model_name,
            _read_tensors(message.inputs, entries, "input"),
            message.model_version,
            message.id,
            read_parameters(message.parameters),
            tuple(output.name for output in message.outputs),
        )


@dataclass(slots=True)
class InferResponse:
    """A ModelInferResponse."""

    model_name: str
    outputs: dict[str, Tensor]
    model_version: str = ""
    id: str = ""
    parameters: dict[str, Parameter] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The message's bytes, with raw contents for every output; raises as InferRequest.encode does."""
        message = pb.ModelInferResponse()
        with _values_checked(message):
            _write_header(message, self)
            _write_tensors(message.outputs, self.outputs, "output")
        raws = (tensor.raw for tensor in self.outputs.values())
        return join_message(message.SerializeToString(), _RAW_OUTPUTS, raws)

    @classmethod
    def decode(cls, data: bytes) -> InferResponse:
        """The response, its tensors views into `data`; raises as InferRequest.decode does."""
        header, entries = split_message(data, _RAW_OUTPUTS)
        message = pb.ModelInferResponse()
        _parse(message, header)
        return cls(
            message.model_name,
            _read_tensors(message.outputs, entries, "output"),
            message.model_version,
            message.id,
            read_parameters(message.parameters),
        )


def split_request(data: bytes) -> tuple[bytes, list[memoryview]]:
    """An encoded ModelInferRequest without its raw contents, and those; InvalidInput where the wire format is broken.

    Without them a message may have MAX_HEADER bytes.
    """
    header, entries = split_message(data, _RAW_INPUTS)
    if len(header) > MAX_HEADER:
        raise InvalidInput(f"expected at most {MAX_HEADER} bytes beside the raw contents, got {len(header)}")
    return header, entries


def parse_request(header: bytes) -> pb.ModelInferRequest:
    """The message of the bytes beside the raw contents; raises InvalidInput."""
    message = pb.ModelInferRequest()
    _parse(message, header)
    return message


def encode_stream_response(response: bytes = b"", error: str = "", id: str = "") -> bytes:
    """A ModelStreamInferResponse around an encoded InferResponse, or with the message of a failure.

    `id` is that of the request that failed; it travels in an otherwise empty response, as Triton sends it.
    """
    # The words of an error may come from anywhere, half a surrogate pair included.
    header = pb.ModelStreamInferResponse(error_message=encodable(error)).SerializeToString()
    if id:
        response = pb.ModelInferResponse(id=id).SerializeToString()
    return join_message(header, _RESPONSE, [response] if response or not error else [])


def decode_stream_response(data: bytes) -> tuple[bytes, str]:
    """The encoded InferResponse and the error message of a ModelStreamInferResponse.

    Beside an error message the response is empty, or has only the id of the request.
    """
    header, responses = split_message(data, _RESPONSE)
    message = pb.ModelStreamInferResponse()
    _parse(message, header)
    # A message field given more than once is merged, which on the wire is to append.
    return b"".join(responses), message.error_message


def _parse(message: Message, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidInput(f"malformed {message.DESCRIPTOR.name}: {error}") from error


@contextmanager
def _values_checked(message: Message) -> Iterator[None]:
    """Turns protobuf's errors for values that a field can't hold into InvalidInput."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{message.DESCRIPTOR.name}: {error}") from error


def _write_header(message: _Message, source: InferRequest | InferResponse) -> None:
    message.model_name = source.model_name
    message.model_version = source.model_version
    message.id = source.id
    write_parameters(message.parameters, source.parameters)


def _write_tensors(messages: _WireTensors, tensors: Mapping[str, Tensor], kind: str) -> None:
    for name, tensor in tensors.items():
        tensor.check_size(f"{kind} {name!r}")
        message = messages.add()
        message.name = name
        message.datatype = tensor.datatype
        message.shape.extend(tensor.shape)


def _read_tensors(messages: Sequence[_WireTensor], entries: list[memoryview], kind: str) -> dict[str, Tensor]:
    """The tensors by name; `kind` is input or output, for the messages of errors."""
    for message in messages:
        refuse_tensor_parameters(message.parameters, f"{kind} {message.name!r}")
    if entries and len(entries) != len(messages):
        raise InvalidInput(f"expected {len(messages)} raw_{kind}_contents, one for each {kind}, got {len(entries)}")
    tensors: dict[str, Tensor] = {}
    for index, message in enumerate(messages):
        if message.name in tensors:
            raise InvalidInput(f"{kind} {message.name!r}: expected each name once, got it twice")
        tensors[message.name] = _read_tensor(message, entries[index] if entries else None, kind)
    return tensors


def _read_tensor(message: _WireTensor, entry: memoryview | None, kind: str) -> Tensor:
    where = f"{kind} {message.name!r}"
    shape = tuple(message.shape)
    if entry is None:
        return Tensor(message.datatype, shape, raw_contents(message.contents, message.datatype, shape, where))
    if message.HasField("contents"):
        raise InvalidInput(f"{where}: expected raw or typed contents, got both")
    tensor = Tensor(message.datatype, shape, entry)
    tensor.check(where)
    return tensor
