"""A warm worker for ZenML's steps: `python -m orchd.zenml._worker SOCKET IDLE_SECONDS MODULE…`, with what
listens there as its stdin.

It imports ZenML, activates its integrations and opens the store, closes what cannot be shared, and forks for each step;
see `orchd._forking`. It knows nothing of the user's files, which each fork imports for itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pickle
import socket
import sys
import sysconfig
import threading
from typing import Any

from .._cloner import Cloner, NotWarm
from .._forking import Request, Server, finish, let_signals_end_it
from .._marks import ROOM
from . import run_step

_MOST_STEP_RUNS = 100  # as ZenML keeps in its own process
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _import(modules: list[str]) -> None:
    from zenml.integrations.registry import integration_registry

    from . import _entry  # noqa: F401

    integration_registry.activate_integrations()
    for name in modules:
        with contextlib.suppress(Exception):  # the step that needs it will tell
            importlib.import_module(name)


def _open_store() -> None:
    """All that a step would do first, if it needs no token; nothing of it stays open."""
    from zenml.client import Client
    from zenml.environment import Environment
    from zenml.zen_stores.sql_zen_store import SqlZenStore

    with contextlib.suppress(RuntimeError):
        packages = Environment.get_python_packages()
        known: Any = Environment  # it asks another program, each time
        known.get_python_packages = staticmethod(lambda: packages)
    if os.environ.get("ZENML_STORE_TYPE") == "sql":
        client = Client()
        with contextlib.suppress(Exception):  # steps take longer then
            _rehearse(client.zen_store)
        with contextlib.suppress(Exception):
            client.active_stack.orchestrator  # noqa: B018
            client.active_project  # noqa: B018
        store = client.zen_store
        if isinstance(store, SqlZenStore):
            store.engine.dispose()


def _rehearse(store: Any) -> None:
    from ._rehearsal import rehearse

    if store.engine.url.drivername.startswith("sqlite"):
        rehearse(store)


class _Known:
    """What all steps of a run ask ZenML's store first, asked once. Only of a store that needs no token."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Any] = {}
        self.runs: dict[str, Any] = {}
        self.step_runs: dict[str, dict[str, Any]] = {}  # of the last run, by the names of its steps that have succeeded
        self.is_fork = False

    def before(self, request: Request) -> None:
        if os.environ.get("ZENML_STORE_TYPE") != "sql":
            return
        try:
            payload = json.loads(request.words[0])
            if payload["kind"] == "step":
                arguments, run_id = payload["arguments"], os.fsdecode(request.environ[b"ORCH_RUN_ID"])
                # What it was before it is started again.
                self.step_runs.get(run_id, {}).pop(arguments[arguments.index("--step_name") + 1], None)
                self._learn(arguments[arguments.index("--snapshot_id") + 1], run_id)
        except Exception:  # the step asks for itself, and tells
            return

    def _learn(self, snapshot_id: str, run_id: str) -> None:
        from uuid import UUID

        from zenml.client import Client
        from zenml.enums import ExecutionStatus

        if snapshot_id in self.snapshots and run_id in self.runs:
            return
        client = Client()
        store: Any = client.zen_store
        try:
            if snapshot_id not in self.snapshots:
                self.snapshots, self.runs = {snapshot_id: store.get_snapshot(UUID(snapshot_id))}, {}
                return  # its first step makes the run what it is
            found = client.list_pipeline_runs(orchestrator_run_id=run_id, size=1, hydrate=False).items
            if found and found[0].status == ExecutionStatus.RUNNING:
                run = client.get_pipeline_run(found[0].id)
                if run.snapshot is not None:
                    run.snapshot.pipeline_configuration  # noqa: B018  what each step would ask the store for
                self.runs = {run_id: run}
        finally:
            if not self.is_fork:
                store.engine.dispose()
                gc.freeze()

    def after(self, note: bytes) -> None:
        """What a step that has ended was: those after it need not ask for it."""
        with contextlib.suppress(Exception):  # they ask
            self._add(*pickle.loads(note))  # noqa: S301  of a fork of this process

    def _add(self, run_id: str, step_run: Any) -> None:
        known = self.step_runs.get(run_id, {})
        known[step_run.name] = step_run
        while len(known) > _MOST_STEP_RUNS:
            del known[next(iter(known))]
        self.step_runs = {run_id: known}

    def use(self, server: Server) -> None:
        """In a fork of it."""
        from zenml.integrations.registry import integration_registry

        from . import _entry

        known: Any = integration_registry
        known.activate_integrations = lambda: None  # they are
        _entry.snapshots = self.snapshots
        _entry.runs = self.runs
        _entry.step_runs = self.step_runs

        def made(run_id: str, step_run: Any) -> None:
            self._add(run_id, step_run)
            if server.note >= 0:
                with contextlib.suppress(Exception):  # those after it ask the store
                    os.write(server.note, pickle.dumps((run_id, step_run)))

        _entry.made, _entry.begins, _entry.ends = made, server.come_back, server.leave
        self.is_fork = True


def _forget() -> None:
    """In a fork: what this process' ZenML knew before the step's environment was there."""
    from zenml.client import Client
    from zenml.config.global_config import GlobalConfiguration
    from zenml.login.credentials_store import CredentialsStore

    if os.environ.get("ZENML_STORE_TYPE") != "sql":
        CredentialsStore._clear()
        Client._reset_instance()
        GlobalConfiguration._reset_instance()


def _state() -> list[object]:
    """What changes when something is installed, which its names say with their versions, or a file of this package is
    edited."""
    found: list[object] = []
    for folder in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}):
        with contextlib.suppress(OSError):
            found.append((sorted(os.listdir(folder)), os.stat(folder).st_mtime_ns))
    for folder in (_PACKAGE, os.path.join(_PACKAGE, "zenml")):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            files = sorted((entry.name, entry.stat()) for entry in entries if entry.name.endswith(".py"))
            found += [(name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in files]
    return found


def _stays(request: Request) -> str:
    """The run, if its steps may share a process."""
    try:
        payload = json.loads(request.words[0])
        if payload["isolation"] == "shared" and payload["kind"] == "step":
            return os.fsdecode(request.environ[b"ORCH_RUN_ID"])
    except (ValueError, LookupError, TypeError):
        pass
    return ""


def _loaded_from(root: str) -> list[str]:
    """The user's own files."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return [file for file in files if isinstance(file, str) and file.startswith(root + os.sep)]


def main(words: list[str]) -> int:
    path, idle_seconds, *modules = words
    os.environ.pop(ROOM, None)
    listener = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    let_signals_end_it()
    known = _state()

    def fits(request: Request) -> bool:
        request.stale = _state() != known
        return not request.stale

    try:
        _import(modules)
        _open_store()
        if threading.active_count() > 1:
            raise NotWarm("threads")
        gc.collect()
        gc.freeze()
        if os.fork():
            os._exit(0)
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(10)
        known_of_runs = _Known()
        server = Server(
            Cloner(),
            listener,
            path,
            fits,
            idle_seconds=float(idle_seconds),
            before=known_of_runs.before,
            after=known_of_runs.after,
            stays=_stays,
        )
    except BaseException:  # the steps that wait get fresh processes, which will tell it
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    step: list[str] | None = server.serve()
    code = 0
    while step is not None:
        sys.argv = [os.path.join(os.path.dirname(__file__), "run_step.py"), *step]
        payload = json.loads(step[0])
        run_step.prepare(payload)
        _forget()
        known_of_runs.use(server)
        code = run_step.run(payload)
        step = server.stay(_loaded_from(payload["root"])) if code == 0 else None
    finish(code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
