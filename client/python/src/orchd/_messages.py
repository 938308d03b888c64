"""The messages and calls of orch.v1, made at import from the descriptors that protoc wrote at build time.

There is no generated code, which would run only with the protobuf releases near protoc's own; and the descriptors live
in a pool of their own, so that another package's google.rpc or orch.v1 cannot clash with ours.
"""

from __future__ import annotations

import math
import pathlib
from datetime import datetime, timezone
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ._scalars import Duration, read_duration
from .errors import Refused

_FILE = pathlib.Path(__file__).with_name("_proto") / "orch.binpb"


class Method(NamedTuple):
    path: str
    request: Any
    response: Any
    streams: bool


def _load() -> tuple[dict[str, Any], dict[str, Method]]:
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(_FILE.read_bytes()).file
    except FileNotFoundError:
        raise ImportError(f"{_FILE} is missing: run client/python/generate_proto.py") from None
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())

    def message(name: str) -> Any:
        descriptor = pool.FindMessageTypeByName(name.lstrip("."))
        if hasattr(message_factory, "GetMessageClass"):
            return message_factory.GetMessageClass(descriptor)
        return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # protobuf before 4.22

    messages = {
        f"{file.package}.{declared.name}": message(f"{file.package}.{declared.name}")
        for file in files
        if not file.package.startswith("google.protobuf")
        for declared in file.message_type
    }
    methods = {
        f"{service.name}.{method.name}": Method(
            f"/{file.package}.{service.name}/{method.name}",
            messages[method.input_type.lstrip(".")],
            messages[method.output_type.lstrip(".")],
            method.server_streaming,
        )
        for file in files
        for service in file.service
        for method in service.method
    }
    return messages, methods


_MESSAGES, METHODS = _load()


def message_class(name: str) -> Any:
    """The class of `orch.v1.NAME`, or of a full name."""
    return _MESSAGES[name if "." in name else f"orch.v1.{name}"]


def enum_name(message: Any, field: str) -> str:
    """The word of an enum field; a number that this build does not know, as text; `` for unspecified."""
    number = getattr(message, field)
    value = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number.get(number)
    if value is None:
        return str(number)
    return "" if number == 0 else str(value.name)


def fill_value(out: Any, value: Any) -> None:
    """Sets a google.protobuf.Value to plain Python data."""
    if value is None:
        out.null_value = 0
    elif isinstance(value, bool):
        out.bool_value = value
    elif isinstance(value, (int, float)):
        if isinstance(value, int) and abs(value) > 2**53:
            raise ValueError(f"{value}: integers are exact only up to 2^53; give it as text")
        if not math.isfinite(value):
            raise ValueError(f"{value}: a number must be finite")
        out.number_value = float(value)
    elif isinstance(value, str):
        out.string_value = value
    elif isinstance(value, dict):
        out.struct_value.SetInParent()
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{key!r}: a key must be text")
            fill_value(out.struct_value.fields[key], item)
    elif isinstance(value, (list, tuple)):
        out.list_value.SetInParent()
        for item in value:
            fill_value(out.list_value.values.add(), item)
    else:
        raise TypeError(f"{type(value).__name__} is no JSON value")


def plain_value(value: Any) -> Any:
    """Plain Python data of a google.protobuf.Value; whole numbers become int."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = float(value.number_value)
        return int(number) if number.is_integer() and abs(number) <= 2**53 else number
    if kind == "struct_value":
        return plain_struct(value.struct_value)
    if kind == "list_value":
        return [plain_value(item) for item in value.list_value.values]
    if kind in ("bool_value", "string_value"):
        return getattr(value, kind)
    return None


def plain_struct(struct: Any) -> dict[str, Any]:
    return {key: plain_value(struct.fields[key]) for key in sorted(struct.fields)}


def fill_time(out: Any, value: datetime, what: str) -> None:
    """Sets a google.protobuf.Timestamp. Raises Refused: without a zone a time may mean several."""
    if value.tzinfo is None:
        raise Refused("TIME_INVALID", f"{what}: {value} has no zone; use datetime.now(timezone.utc) and its like")
    since = value - datetime(1970, 1, 1, tzinfo=timezone.utc)
    out.seconds, out.nanos = since.days * 86_400 + since.seconds, since.microseconds * 1000
    out.SetInParent()


def fill_duration(out: Any, value: str | float | Duration) -> None:
    """Sets a google.protobuf.Duration from `10m`, or seconds. Raises ValueError."""
    if isinstance(value, str):
        read = read_duration(value)
        if read is None:
            raise ValueError(f"{value!r} is no duration such as 500ms, 10s, 5m, 2h or 1d")
        value = read
    if not isinstance(value, Duration):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{value} is no number of seconds")
        nanos = round(value * 1e9)
        value = Duration(nanos // 10**9, nanos % 10**9)
    out.seconds, out.nanos = value
    out.SetInParent()
