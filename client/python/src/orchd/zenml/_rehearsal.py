"""A pipeline of two steps that a worker plays for itself before it forks, on a copy of ZenML's SQLite store: what ZenML
and SQLAlchemy compile and look up then, each step would do again. Nothing of it is left, in the store or elsewhere.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import pathlib
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import zenml.stack.stack
from sqlalchemy import event
from zenml import pipeline, step
from zenml.analytics.context import AnalyticsContext
from zenml.client import Client
from zenml.config.global_config import GlobalConfiguration
from zenml.orchestrators.local.local_orchestrator import LocalOrchestrator
from zenml.utils import source_utils

from . import _workers

MOST_BYTES = 256 << 20  # of the store; a larger one takes too long to copy
# Components of these types do nothing of their own in a run.
_HARMLESS = {"orchestrator", "artifact_store", "log_store", "image_builder", "container_registry"}

_PREFIX = "rehearsal-"  # of the copy's folder, with the worker's number

_ended: list[Any] = []  # kept, since what is registered for forks asks for them


@step
def give() -> int:
    return 1


@step
def take(number: int) -> int:
    return number


@pipeline(enable_cache=False)
def rehearsal() -> None:
    take(give())


def rehearse(store: Any) -> None:
    """Of a store in SQLite. What it raises means that there was none."""
    path = store.engine.url.database
    stack = Client().active_stack_model
    if os.path.getsize(path) > MOST_BYTES or not {kind.value for kind in stack.components} <= _HARMLESS:
        return
    parent = _workers.folder() or tempfile.gettempdir()
    _clear(parent)
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent)
    try:
        copy = os.path.join(folder, "zenml.db")
        _copy(path, copy, folder)
        with _connecting_to(store.engine, copy), _without_analytics():
            active = Client().active_stack
            if not isinstance(active.orchestrator, LocalOrchestrator) or active.artifact_store.path != folder:
                raise RuntimeError("the copy has not the stack that was written there")
            source_utils.set_custom_source_root(str(pathlib.Path(__file__).resolve().parents[2]))
            try:
                rehearsal()
            finally:
                source_utils.set_custom_source_root(None)
    finally:
        try:
            _end_logging()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _clear(parent: str) -> None:
    """Of what workers have left that were killed in the middle."""
    for name in os.listdir(parent):
        pid = name[len(_PREFIX) :].partition("-")[0]
        if name.startswith(_PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)


def _end_logging() -> None:
    """Of the stack that is gone now: a thread. A fork starts it again, and it ends at once."""
    for thread in threading.enumerate():
        made_by: Any = getattr(getattr(thread, "_target", None), "__self__", None)
        if thread.name.startswith("Otel") and made_by is not None:
            made_by.shutdown()
            thread.join(10)
            _ended.append(made_by)
    gc.collect()


def _copy(path: str, copy: str, folder: str) -> None:
    """With an orchestrator of ZenML's own, and artifacts and logs in the folder."""
    source = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    target = sqlite3.connect(copy)
    with contextlib.closing(source), contextlib.closing(target):
        source.backup(target)
        store = base64.b64encode(json.dumps({"path": folder}).encode())
        empty = base64.b64encode(b"{}")
        change = "UPDATE stack_component SET flavor = ?, configuration = ?, connector_id = NULL WHERE type = ?"
        target.execute(change, ("local", empty, "orchestrator"))
        target.execute(change, ("local", store, "artifact_store"))
        target.execute(change, ("artifact", empty, "log_store"))
        target.commit()


def _forget_stack() -> None:
    known: Any = GlobalConfiguration()
    known._active_stack = None
    known = Client()
    known._active_stack = None
    cache: Any = getattr(zenml.stack.stack, "_STACK_CACHE", None)
    if cache is not None:
        cache.clear()


@contextlib.contextmanager
def _connecting_to(engine: Any, copy: str) -> Iterator[None]:
    def instead(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        return dialect.connect(copy, *list(arguments)[1:], **options)

    engine.dispose()
    event.listen(engine, "do_connect", instead)
    _forget_stack()
    try:
        yield
    finally:
        engine.dispose()
        event.remove(engine, "do_connect", instead)
        _forget_stack()


@contextlib.contextmanager
def _without_analytics() -> Iterator[None]:
    asked: Any = AnalyticsContext
    kept = {name: getattr(asked, name) for name in ("identify", "group", "track", "alias") if hasattr(asked, name)}
    for name in kept:
        setattr(asked, name, lambda *_, **__: True)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(asked, name, value)
