"""orch.v1 over gRPC, one try a call: what is not answered is for the test to know. Needs orch_python of the build."""
from __future__ import annotations

import sys
from typing import Any, Iterator

import grpc

from tests.lib.daemon import ROOT, Daemon

sys.path.insert(0, str(ROOT / "client/python/src"))
from orchd import spec  # noqa: E402
from orchd._messages import METHODS, message_class  # noqa: E402

_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 20),
            ("grpc.max_reconnect_backoff_ms", 100)]


def message(kind: str, /, **fields: Any) -> Any:
    return message_class(kind)(**fields)


def pipeline(described: dict[str, Any]) -> Any:
    """The message of a pipeline that is written as a YAML file would be."""
    return spec.load(described).message


def enum_name(of: Any, field: str) -> str:
    """The word of an enum field's value."""
    return str(of.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(of, field)].name)


class Api:
    """Over the daemon's Unix socket. Each life of a daemon needs its own: a channel remembers failures."""

    def __init__(self, daemon: Daemon) -> None:
        self._channel = grpc.insecure_channel("unix:" + daemon.server["grpc_unix"], options=_OPTIONS)

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    close = __exit__

    def call(self, name: str, request: Any, timeout: float = 20) -> Any:
        method = METHODS[name]
        stub = self._channel.unary_unary(method.path, request_serializer=method.request.SerializeToString,
                                         response_deserializer=method.response.FromString)
        return stub(request, timeout=timeout)

    def stream(self, name: str, request: Any) -> Any:
        method = METHODS[name]
        return self._channel.unary_stream(method.path, request_serializer=method.request.SerializeToString,
                                          response_deserializer=method.response.FromString)(request)

    def pages(self, name: str, request: Any, field: str) -> Iterator[Any]:
        request.page_size = 1000
        while True:
            answer = self.call(name, request, timeout=60)
            yield from getattr(answer, field)
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token
