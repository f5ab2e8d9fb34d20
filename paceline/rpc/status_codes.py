"""The one place where errors become gRPC status codes, and status codes errors."""

import asyncio
import contextlib
from collections.abc import Sequence
from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from paceline import errors
from paceline.errors import PacelineError, ResourceExhausted
from paceline.v1 import session_pb2

_CODES: dict[type[PacelineError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
MESSAGE_BYTES = 2048
"""Of an error's message, as it travels: in metadata, of which there may be 8 KiB, twice."""
_UNQUOTED = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_LOST = frozenset((grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED, grpc.StatusCode.DATA_LOSS))
"""What gRPC makes of a peer that is gone, and no server of ours says."""
_LOST_WORDS = ("Internal error from Core", "RST_STREAM", "Stream removed", "Socket closed")
"""How it says so with INTERNAL: a message could not be sent any more, or a stream was reset."""
_DETAILS = "grpc-status-details-bin"
_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_ERRORS = {code: kind for kind, code in _CODES.items()}


def code_of(error: PacelineError) -> grpc.StatusCode:
    """The canonical code of an error."""
    return _CODES.get(type(error), grpc.StatusCode.INTERNAL)


def message_of(error: PacelineError | str) -> str:
    """What is said of an error, cut to MESSAGE_BYTES of gRPC's encoding."""
    text = str(error)
    short = text[:MESSAGE_BYTES].encode(errors="replace").decode()
    while len(quote(short, safe=_UNQUOTED)) > MESSAGE_BYTES:
        short = short[: len(short) * 7 // 8]
    return short if len(short) == len(text) else f"{short[:-3]}..."


def trailing_metadata(error: PacelineError) -> tuple[tuple[str, bytes], ...]:
    """Rich error details for the trailing metadata: RetryInfo when the caller should try again."""
    if not isinstance(error, ResourceExhausted) or error.retry_after is None:
        return ()
    delay = Duration()
    delay.FromNanoseconds(round(error.retry_after * 1e9))
    detail = Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(
        code=code_pb2.RESOURCE_EXHAUSTED, message=message_of(error), details=[detail]
    )
    return ((_DETAILS, status.SerializeToString()),)


def closed_to_proto(
    code: grpc.StatusCode, message: str, trailing: Sequence[tuple[str, str | bytes]] = ()
) -> session_pb2.Closed:
    """paceline.v1.Closed, of what would end a call of its own."""
    details = dict(trailing).get(_DETAILS, b"")
    number, _ = code.value
    encoded = details if isinstance(details, bytes) else b""
    return session_pb2.Closed(code=number, message=message_of(message), details=encoded)


def rpc_error_of(closed: session_pb2.Closed) -> grpc.aio.AioRpcError | None:
    """The error that a call of its own would have ended with; None when all was well."""
    code = _STATUS.get(closed.code, grpc.StatusCode.UNKNOWN)
    if code is grpc.StatusCode.OK:
        return None
    trailing = grpc.aio.Metadata((_DETAILS, closed.details))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, closed.message)


def from_rpc_error(error: grpc.aio.AioRpcError) -> PacelineError:
    """The error that the server raised, as far as its status tells; Unavailable if it is gone."""
    kind = _ERRORS.get(error.code(), errors.Internal)
    message = message_of(error.details() or error.code().name)
    if is_of_lost_peer(error):
        return errors.Unavailable(message)
    if kind is ResourceExhausted:
        return ResourceExhausted(message, _retry_after(error))
    return kind(message)


def is_of_lost_peer(error: grpc.aio.AioRpcError) -> bool:
    """Whether gRPC made the status here, of a peer that died or of a connection that broke."""
    said = error.details() or ""
    internal = error.code() is grpc.StatusCode.INTERNAL
    return error.code() in _LOST or (internal and any(words in said for words in _LOST_WORDS))


def is_cancelled_itself() -> bool:
    """Whether somebody cancels the task that runs, not the call in it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _retry_after(error: grpc.aio.AioRpcError) -> float | None:
    trailing = dict(error.trailing_metadata() or ())
    encoded = trailing.get(_DETAILS)
    retry = error_details_pb2.RetryInfo()
    with contextlib.suppress(DecodeError):  # it comes from outside
        status = status_pb2.Status.FromString(encoded if isinstance(encoded, bytes) else b"")
        for detail in status.details:
            if detail.Unpack(retry):
                return float(retry.retry_delay.ToNanoseconds() / 1e9)
    return None
