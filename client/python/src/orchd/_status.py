"""From a failed call to the exception that a caller sees."""

from __future__ import annotations

from typing import Any

from . import errors
from ._grpc import grpc
from ._messages import message_class

_BY_CODE: dict[str, type[errors.OrchdError]] = {
    "NOT_FOUND": errors.NotFound,
    "ALREADY_EXISTS": errors.AlreadyExists,
    "INVALID_ARGUMENT": errors.Refused,
    "FAILED_PRECONDITION": errors.Refused,
    "OUT_OF_RANGE": errors.Refused,
    "ABORTED": errors.Refused,
    "UNAUTHENTICATED": errors.PermissionDenied,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "RESOURCE_EXHAUSTED": errors.Busy,
    "UNAVAILABLE": errors.Unreachable,
    "DEADLINE_EXCEEDED": errors.Unreachable,
}


def _details(failure: grpc.RpcError) -> list[Any]:
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            try:
                return list(message_class("google.rpc.Status").FromString(value).details)
            except Exception:  # somebody else's bytes; the code and text say enough
                return []
    return []


def _unpack(details: list[Any], name: str) -> Any:
    for detail in details:
        if detail.type_url.rpartition("/")[2] == name:
            return message_class(name).FromString(detail.value)
    return None


def error_of(failure: grpc.RpcError, server: str) -> errors.OrchdError:
    code = failure.code().name
    text = failure.details() or ""
    details = _details(failure)
    info = _unpack(details, "google.rpc.ErrorInfo")
    bad = _unpack(details, "google.rpc.BadRequest")
    reason = info.reason if info is not None and info.reason else code
    violations = [
        errors.Violation(fault.field, fault.description, fault.reason)
        for fault in (bad.field_violations if bad is not None else ())
    ]
    kind = _BY_CODE.get(code, errors.OrchdError)
    if reason == "PIPELINE_INVALID":
        kind = errors.PipelineInvalid
    if info is None:  # gRPC's own words, which name no server
        if kind is errors.Unreachable:
            text = f"{server} does not answer ({text}): is orchd running?"
        elif code == "UNAUTHENTICATED":
            text = f"{server} does not take the token ({text}): set ORCH_TOKEN to the text of its file `token`"
    return kind(reason, text, violations, code)


def retry_delay(failure: grpc.RpcError) -> float | None:
    """Seconds after which the server wants to be asked again."""
    info = _unpack(_details(failure), "google.rpc.RetryInfo")
    return None if info is None else float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
