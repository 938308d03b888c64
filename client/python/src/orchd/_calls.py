"""Calls with deadlines and retries over one channel, which follows the daemon when it restarts somewhere else."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable
from urllib.parse import quote

import grpc

from ._discover import Endpoint
from ._messages import METHODS
from ._status import error_of, retry_delay
from .errors import OrchdError, Unreachable

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # the daemon is on this machine
    ("grpc.enable_retries", 0),  # ours know request ids
    ("grpc.min_reconnect_backoff_ms", 5000),  # of an attempt to connect: a busy machine takes its time
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0
_FIRST_PATIENCE = 2.0  # with a server that never answered


class Backoff:
    """Waits between tries until patience is over; a success makes it whole again."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.reset()

    def reset(self) -> None:
        self._wait = _FIRST_WAIT
        self._begin = time.monotonic()
        self._deadline = self._begin + self._patience

    def limit(self, patience: float) -> None:
        self._deadline = min(self._deadline, self._begin + patience)

    def sleep(self, at_least: float = 0.0) -> bool:
        """False: no patience is left, or would be after the wait."""
        wait = max(at_least, self._wait * random.uniform(0.8, 1.2))
        if time.monotonic() + wait >= self._deadline:
            return False
        time.sleep(wait)
        self._wait = min(self._wait * 2, _LONGEST_WAIT)
        return True


def _target(address: str) -> str:
    if address.startswith("unix:"):
        return "unix:" + quote(address[len("unix:") :], safe="/")
    return address


class Connection:
    """Safe for use by several threads."""

    def __init__(self, find: Callable[[], Endpoint], timeout: float, patience: float) -> None:
        self._find = find
        self._timeout = timeout
        self.patience = patience
        self._lock = threading.Lock()
        self._channel: Any = None
        self._endpoint: Endpoint | None = None
        self._was_connected = False
        self._closed = False

    @property
    def server(self) -> str:
        return self._endpoint.address if self._endpoint is not None else "the daemon"

    def open(self, endpoint: Endpoint | None = None) -> tuple[Any, Endpoint]:
        """The channel to `endpoint`, by default to the one known or found."""
        with self._lock:
            if self._closed:
                raise OrchdError("CLIENT_CLOSED", "this client was closed")
            if endpoint is None:
                endpoint = self._endpoint or self._find()
            if self._channel is None or endpoint != self._endpoint:
                # The old channel goes when its last stream does.
                self._channel = grpc.insecure_channel(_target(endpoint.address), options=_OPTIONS)
                self._endpoint = endpoint
            return self._channel, endpoint

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _follow(self) -> None:
        """After a lost connection: the daemon may be back at another address, or with another token."""
        try:
            self.open(self._find())
        except Unreachable:
            if not self._was_connected:
                raise

    def _metadata(self, endpoint: Endpoint) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {endpoint.token}")] if endpoint.token else []

    def unary(self, name: str, request: Any, timeout: float | None = None, backoff: Backoff | None = None) -> Any:
        """One answer. Tries again while the server is away, so a mutation must bear a request id."""
        method = METHODS[name]
        backoff = backoff or Backoff(self.patience)
        while True:
            channel, endpoint = self.open()
            call = channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            try:
                answer = call(request, timeout=timeout or self._timeout, metadata=self._metadata(endpoint))
            except grpc.RpcError as failure:
                if not self.may_retry(failure, backoff):
                    raise error_of(failure, endpoint.address) from None
            else:
                self._was_connected = True
                return answer

    def may_retry(self, failure: grpc.RpcError, backoff: Backoff) -> bool:
        """Waits and answers true if the same call may be tried again."""
        code = failure.code()
        delay = retry_delay(failure)
        if delay is not None:
            self._was_connected = True
        elif not self._was_connected:
            backoff.limit(_FIRST_PATIENCE)
        if code == grpc.StatusCode.UNAVAILABLE:
            if delay is None:
                self._follow()
        elif code != grpc.StatusCode.RESOURCE_EXHAUSTED or delay is None:
            return False
        return backoff.sleep(delay or 0.0)

    def stream(self, name: str, request: Any, timeout: float) -> Iterator[Any]:
        """The answers of one stream; a failure is a grpc.RpcError for the caller, who knows how to resume."""
        method = METHODS[name]
        channel, endpoint = self.open()
        call = channel.unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )(request, timeout=timeout, metadata=self._metadata(endpoint))
        try:
            for answer in call:
                self._was_connected = True
                yield answer
        finally:
            call.cancel()
