"""Calls with deadlines and retries over one channel, which follows the daemon when it restarts somewhere else.

Written once: what `Connection` does is the same in both clients, and its coroutines only ever wait in what
`BlockingConnection` does at once and `AsyncConnection` awaits. `_blocking` runs the former without an event loop.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, Callable, TypeVar
from urllib.parse import quote

from ._discover import Endpoint
from ._grpc import aio, grpc
from ._messages import METHODS
from ._status import error_of, retry_delay
from .errors import OrchdError, Unreachable

T = TypeVar("T")
Metadata = list[tuple[str, str]]

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # the daemon is on this machine or in its network
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

    def next_wait(self, at_least: float = 0.0) -> float | None:
        """Seconds to wait before the next try. None: no patience is left, or would be after the wait."""
        wait = max(at_least, self._wait * random.uniform(0.8, 1.2))
        if time.monotonic() + wait >= self._deadline:
            return None
        self._wait = min(self._wait * 2, _LONGEST_WAIT)
        return wait


def _target(address: str) -> str:
    if address.startswith("unix:"):
        return "unix:" + quote(address[len("unix:") :], safe="/")
    return address


def _channel_to(grpc_of: Any, endpoint: Endpoint) -> Any:
    """`grpc_of`: grpc or grpc.aio."""
    if not endpoint.tls:
        return grpc_of.insecure_channel(_target(endpoint.address), options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(endpoint.ca.encode() or None)
    return grpc_of.secure_channel(endpoint.address[len("https://") :], credentials, options=_OPTIONS)


class closing:  # as contextlib.aclosing, which Python 3.9 does not have
    """Ends an asynchronous generator where its user stops, not when its last trace is collected."""

    def __init__(self, feed: Any) -> None:
        self._feed = feed

    async def __aenter__(self) -> AsyncIterator[Any]:
        return self._feed  # type: ignore[no-any-return]

    async def __aexit__(self, *_: object) -> None:
        await self._feed.aclose()


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

    # How it is done

    def _new_channel(self, endpoint: Endpoint) -> Any:
        raise NotImplementedError

    def _is_usable(self) -> bool:
        """Whether the channel may be used from here."""
        return True

    async def _answer(self, call: Any, request: Any, timeout: float, metadata: Metadata) -> Any:
        raise NotImplementedError

    def _answers(self, stream: Any) -> AsyncIterator[Any]:
        raise NotImplementedError

    async def _sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def aside(self, work: Callable[[], T]) -> T:
        """The result of something that takes its time."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    # What is done

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
            if self._channel is None or endpoint != self._endpoint or not self._is_usable():
                # The old channel goes when its last stream does.
                self._channel = self._new_channel(endpoint)
                self._endpoint = endpoint
            return self._channel, endpoint

    def _take_channel(self) -> Any:
        """To close it; nothing is called after this."""
        with self._lock:
            self._closed = True
            channel, self._channel = self._channel, None
            return channel

    def _follow(self) -> None:
        """After a lost connection: the daemon may be back at another address, or with another token."""
        try:
            self.open(self._find())
        except Unreachable:
            if not self._was_connected:
                raise

    def _metadata(self, endpoint: Endpoint) -> Metadata:
        return [("authorization", f"Bearer {endpoint.token}")] if endpoint.token else []

    async def unary(self, name: str, request: Any, timeout: float | None = None, backoff: Backoff | None = None) -> Any:
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
                answer = await self._answer(call, request, timeout or self._timeout, self._metadata(endpoint))
            except grpc.RpcError as failure:
                if not await self.may_retry(failure, backoff):
                    raise error_of(failure, endpoint.address) from None
            else:
                self._was_connected = True
                return answer

    async def pause(self, backoff: Backoff, at_least: float = 0.0) -> bool:
        """False: no patience is left."""
        wait = backoff.next_wait(at_least)
        if wait is None:
            return False
        await self._sleep(wait)
        return True

    async def may_retry(self, failure: grpc.RpcError, backoff: Backoff) -> bool:
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
        return await self.pause(backoff, delay or 0.0)

    async def stream(self, name: str, request: Any, timeout: float) -> AsyncIterator[Any]:
        """The answers of one stream; a failure is a grpc.RpcError for the caller, who knows how to resume."""
        method = METHODS[name]
        channel, endpoint = self.open()
        call = channel.unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )(request, timeout=timeout, metadata=self._metadata(endpoint))
        try:
            async for answer in self._answers(call):
                self._was_connected = True
                yield answer
        finally:
            call.cancel()


class BlockingConnection(Connection):
    """Its coroutines never wait for a loop: each is done when it is first asked."""

    def _new_channel(self, endpoint: Endpoint) -> Any:
        return _channel_to(grpc, endpoint)

    async def _answer(self, call: Any, request: Any, timeout: float, metadata: Metadata) -> Any:
        return call(request, timeout=timeout, metadata=metadata)

    async def _answers(self, stream: Any) -> AsyncIterator[Any]:
        for answer in stream:
            yield answer

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def aside(self, work: Callable[[], T]) -> T:
        return work()

    async def close(self) -> None:
        channel = self._take_channel()
        if channel is not None:
            channel.close()


class AsyncConnection(Connection):
    """Its channel belongs to the event loop in which it was made; in another loop there is another one."""

    _loop: Any = None

    def _new_channel(self, endpoint: Endpoint) -> Any:
        import asyncio

        self._loop = asyncio.get_running_loop()
        return _channel_to(aio(), endpoint)

    def _is_usable(self) -> bool:
        import asyncio

        return self._loop is asyncio.get_running_loop()

    async def _answer(self, call: Any, request: Any, timeout: float, metadata: Metadata) -> Any:
        return await call(request, timeout=timeout, metadata=metadata)

    def _answers(self, stream: Any) -> AsyncIterator[Any]:
        return stream.__aiter__()  # type: ignore[no-any-return]

    async def _sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    async def aside(self, work: Callable[[], T]) -> T:
        import asyncio

        return await asyncio.to_thread(work)

    async def close(self) -> None:
        import asyncio

        channel = self._take_channel()
        if channel is not None and self._loop is asyncio.get_running_loop():
            await channel.close()
