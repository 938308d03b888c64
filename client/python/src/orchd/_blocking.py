"""Coroutines that never wait for an event loop, since their connection blocks, as plain functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Callable, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    P = ParamSpec("P")

T = TypeVar("T")


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("a call that blocks waited for an event loop")


def _items(feed: Any) -> Iterator[Any]:
    try:
        while True:
            try:
                item = run_now(feed.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_now(feed.aclose())


def blocking(call: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """The same call of an object that keeps the real one in `_calls`."""

    @functools.wraps(call)
    def done(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_now(call(self._calls, *args, **kwargs))

    return done


def one_by_one(call: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> Callable[Concatenate[Any, P], Iterator[T]]:
    @functools.wraps(call)  # what `help` shows
    def items(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return _items(call(self._calls, *args, **kwargs))

    signature = inspect.signature(call)
    plain = str(signature.return_annotation).replace("AsyncIterator", "Iterator")
    items.__signature__ = signature.replace(return_annotation=plain)  # type: ignore[attr-defined]
    return items
