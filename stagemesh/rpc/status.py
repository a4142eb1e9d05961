"""The error tree as gRPC statuses and back; every status names stage, replica, model and request.

A status carries google.rpc.ErrorInfo (and RetryInfo for an overload) in `grpc-status-details-bin`. An
error that another stage answered passes through unchanged, so its origin stays that stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from stagemesh.errors import DeadlineExceeded, Origin, Overloaded, RemoteFailure, StagemeshError, Unavailable
from stagemesh.oip.wire import encodable
from stagemesh.rpc.context import MAX_ID_CHARS, Identity, call_context, call_model

DOMAIN = "stagemesh"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
UNREACHABLE = "NEXT_STAGE_UNREACHABLE"

MAX_TEXT_COST = 2400
"""Bytes of a details text as gRPC sends it, percent-encoded. It travels twice (a second time inside
`grpc-status-details-bin`, in base64), and gRPC drops trailing metadata beyond 8 KiB."""
_TAIL_COST = 400
_CODES = {code.name: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """What a failed call answers: the arguments of `context.abort`, and the reason for the metrics."""

    code: grpc.StatusCode
    details: str
    metadata: tuple[tuple[str, str | bytes], ...]
    reason: str


def call_origin(identity: Identity) -> Origin:
    """Return where an error of the current call arises: this server, the call's model and request."""
    call = call_context.get()
    request_id = call.request_id if call else ""
    return Origin(identity.stage, identity.replica, call_model.get(), request_id)


def code_name(error: StagemeshError) -> str:
    """Return the name of the gRPC status of a call that failed with `error`."""
    return error.status if isinstance(error, RemoteFailure) else error.code


def details_text(error: StagemeshError, origin: Origin) -> str:
    """Return `<stage>@<replica>: model '<model>': <message> [request <id>]`, bounded in length.

    The text of an error that another stage answered has this form already and is returned as it is.
    """
    if isinstance(error, RemoteFailure) and error.origin is not None:
        return clip(str(error), MAX_TEXT_COST)
    return _described(str(error), origin)


def _described(message: str, origin: Origin) -> str:
    model = f"model '{origin.model}': " if origin.model else ""
    request = f" [request {origin.request_id}]" if origin.request_id else ""
    return clip(f"{origin.stage}@{origin.replica}: {model}{message}{request}", MAX_TEXT_COST)


def clip(text: str, cost: int) -> str:
    """Return `text` as gRPC can carry it, its middle cut out where it would be longer than `cost` bytes there."""
    text = encodable(text)
    if 12 * len(text) <= cost or (len(text) <= cost and sum(map(_encoded_size, text)) <= cost):
        return text
    head = _fitting(text, cost - _TAIL_COST)
    tail = _fitting(text[::-1], _TAIL_COST - 10)[::-1]
    return f"{head} [...] {tail}"


def _fitting(text: str, cost: int) -> str:
    for index, char in enumerate(text):
        cost -= _encoded_size(char)
        if cost < 0:
            return text[:index]
    return text


def _encoded_size(char: str) -> int:
    return 1 if " " <= char <= "~" and char != "%" else 3 * len(char.encode())


def to_rpc_status(error: StagemeshError, origin: Origin) -> RpcStatus:
    """Return what a call that failed with `error` answers; `origin` is the server that answers."""
    remote = error if isinstance(error, RemoteFailure) else None
    code = _CODES[code_name(error)]
    if remote and remote.origin:
        origin = remote.origin
    text = details_text(error, origin)
    retry_after_s = error.retry_after_s if isinstance(error, (Overloaded, RemoteFailure)) else None
    details = _status_details(code, text, error.reason, origin, retry_after_s)
    metadata: tuple[tuple[str, str | bytes], ...] = ((DETAILS_KEY, details),)
    final = remote or error.reason == UNREACHABLE or (isinstance(error, Unavailable) and not error.elsewhere)
    if code is grpc.StatusCode.UNAVAILABLE and final:
        # The hop that failed was retried by its own caller; each hop before it would multiply the attempts.
        metadata += ((PUSHBACK_KEY, "-1"),)
    return RpcStatus(code, text, metadata, error.reason)


def _status_details(
    code: grpc.StatusCode, text: str, reason: str, origin: Origin, retry_after_s: float | None
) -> bytes:
    named = {
        "stage": origin.stage,
        "replica": origin.replica,
        "model": origin.model,
        "request_id": origin.request_id,
    }
    metadata = {key: clip(value, MAX_ID_CHARS) for key, value in named.items()}
    status = status_pb2.Status(code=code.value[0], message=text)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    status.details.add().Pack(info)
    if retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(retry_after_s * 1e9))
        status.details.add().Pack(retry)
    packed: bytes = status.SerializeToString()
    return packed


def from_rpc_error(error: grpc.RpcError, next_stage: str, target: str) -> StagemeshError:
    """Return the domain error for a call to `next_stage` at `target` that failed, sync or aio.

    A failure with ErrorInfo of this mesh is passed on as that stage's own; without one the stage could
    not be reached (Unavailable), did not answer in time (DeadlineExceeded), or is a foreign server.
    """
    code, text, trailing = _parts(error)
    info, retry_after_s = _read_details(trailing)
    if info is not None:
        fields = {key: info.metadata[key] for key in ("stage", "replica", "model", "request_id")}
        origin = Origin(**fields)
        return RemoteFailure(text, status=code.name, reason=info.reason, origin=origin, retry_after_s=retry_after_s)
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(f"stage '{next_stage}' at {target} is out of reach: {text}", reason=UNREACHABLE)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"stage '{next_stage}' at {target} did not answer in the request's time")
    origin = call_origin(Identity(next_stage, target))
    return RemoteFailure(_described(text, origin), status=code.name, origin=origin, retry_after_s=retry_after_s)


def _parts(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, Iterable[tuple[str, str | bytes]]]:
    """Take a failed call apart; a bare RpcError, which has no status, counts as UNKNOWN."""
    if not isinstance(error, (grpc.Call, grpc.aio.AioRpcError)):
        return grpc.StatusCode.UNKNOWN, str(error), ()
    return error.code() or grpc.StatusCode.UNKNOWN, error.details() or "", error.trailing_metadata() or ()


def _read_details(
    trailing: Iterable[tuple[str, str | bytes]],
) -> tuple[error_details_pb2.ErrorInfo | None, float | None]:
    """Return our ErrorInfo and the seconds of RetryInfo, each None where the status has none."""
    info, retry_after_s = None, None
    for detail in _packed_details(trailing):
        error_info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(error_info) and error_info.domain == DOMAIN:
            info = error_info
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return info, retry_after_s


def _packed_details(trailing: Iterable[tuple[str, str | bytes]]) -> Iterable[AnyMessage]:
    for key, value in trailing:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return ()
    return ()
