"""gRPC without what it says on stderr that is no news to anybody. Its modules come from here.

Its core from PyPI logs as information that a daemon went away, which the calls tell by themselves. What it logs is
decided when it is imported: errors only then, unless GRPC_VERBOSITY says something, which is as before afterwards.

All of grpc.aio's loops in a process share one socket to be woken by (grpc/grpc 25364). Of those that wake together one
finds something there, which is all that is needed; asyncio logs of the others that they found nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    if "GRPC_VERBOSITY" in os.environ:
        yield
        return
    os.environ["GRPC_VERBOSITY"] = "ERROR"
    try:
        yield
    finally:
        os.environ.pop("GRPC_VERBOSITY", None)


with _errors_only():
    import grpc


def _is_news(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return not (
        kind is not None
        and issubclass(kind, BlockingIOError)
        and record.getMessage().startswith("Exception in callback PollerCompletionQueue._handle_events(")
    )


def aio() -> Any:
    """grpc.aio."""
    import grpc.aio

    logging.getLogger("asyncio").addFilter(_is_news)  # once, however often
    return grpc.aio


__all__ = ["aio", "grpc"]
