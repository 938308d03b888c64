"""A warm worker: `python -m orchd._worker IGNORED… -- FILE…` in the folder of code, with the environment of its steps.

It imports the files, and forks for each step that `_warm` hands over; see `_forking`.

A worker that cannot be as good as a fresh process does not serve: of files that print, seed or start threads when they
are imported, or that import what does not survive a fork. It begins anew when files changed since. It ends when nobody
asks for a minute.
"""

from __future__ import annotations

import ast
import contextlib
import os
import sys
import tempfile
import threading
from typing import Any, Callable

from . import _places, _warm, run_step
from ._cloner import Cloner, NotWarm
from ._forking import Request, Server, finish, let_signals_end_it, listen
from ._marks import IN_STEP, NO_FORK, ROOM, ROOM_BYTES

MOST_FILES = 2000  # looked at before each step
_MOST_STARTS = 50
_STARTS = "ORCH_WORKER_STARTS"
_SEEDS = ("seed", "manual_seed", "set_seed", "set_random_seed", "seed_everything")

_STANDARD = os.path.dirname(os.__file__) + os.sep

Signature = dict[str, tuple[int, int, int]]


def signature(root: str, ignore: tuple[str, ...], modules: list[str]) -> Signature:
    """What tells that a file changed: those of the folder, and those of modules wherever they are."""
    found: Signature = {}

    def note(path: str) -> None:
        with contextlib.suppress(OSError):
            stat = os.stat(path)
            found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    for entry in _places._files(root, ignore):
        note(entry.path)
        if len(found) > MOST_FILES:
            raise NotWarm("too many files")
    for file in modules:
        note(file)
    return found


def _module_files() -> list[str]:
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return [f for f in files if isinstance(f, str) and (not f.startswith(_STANDARD) or "-packages" in f)]


def _seeds(path: str) -> bool:
    """True if the file seeds random numbers while it is imported: a fork has other ones."""

    def walk(node: ast.AST) -> bool:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return False
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in _SEEDS or name.startswith("RandomState"):
                return True
        return any(map(walk, ast.iter_child_nodes(node)))

    with open(path, "rb") as file:
        return walk(ast.parse(file.read()))


def _import(files: list[str], root: str) -> dict[str, Any]:
    """The modules by place. Raises NotWarm, or what the files raise."""
    modules = {}
    with tempfile.TemporaryFile() as printed:
        for fd in (1, 2):
            os.dup2(printed.fileno(), fd)
        os.environ[IN_STEP] = "worker"
        for place in files:
            modules[place] = run_step._module(place)
        sys.stdout.flush()
        if printed.seek(0, os.SEEK_END):
            raise NotWarm("prints")
    if threading.active_count() > 1 or any(name in sys.modules for name in NO_FORK):
        raise NotWarm("threads")
    if "grpc" in sys.modules and len(os.listdir("/proc/self/task")) > 1:  # a channel is open
        raise NotWarm("gRPC")
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if file.startswith(root + "/") and file.endswith(".py") and _seeds(file):
            raise NotWarm("seeds")
    return modules


def _judge(root: str, ignore: tuple[str, ...]) -> tuple[Callable[[Request], bool], Callable[[], None]]:
    modules = _module_files()
    known = signature(root, ignore, modules)
    shared = _warm.shared_environment(os.environb)

    def fits(request: Request) -> bool:
        if request.folder != os.fsencode(root) or _warm.shared_environment(request.environ) != shared:
            return False
        try:
            request.stale = signature(root, ignore, modules) != known
        except NotWarm:
            request.stale = True
        return not request.stale

    return fits, _begin_anew


def _begin_anew() -> None:
    """Files changed: a worker that knows them. Returns if that was done too often."""
    starts = int(os.environ.get(_STARTS, "0")) + 1
    if starts <= _MOST_STARTS:
        room = {ROOM: "x" * ROOM_BYTES}
        shared = {name: value for name, value in os.environ.items() if not name.startswith("ORCH")}
        words = [sys.executable, "-m", "orchd._worker", *sys.argv[1:]]
        os.execve(sys.executable, words, {**room, **shared, _STARTS: str(starts)})  # noqa: S606


def main(words: list[str]) -> int:
    ignore, files = tuple(words[: words.index("--")]), words[words.index("--") + 1 :]
    root = os.getcwd()
    os.environ.pop(ROOM, None)
    let_signals_end_it()
    path = _warm.socket_path(os.geteuid(), os.fsencode(sys.executable), os.fsencode(root), os.environb)
    try:
        with open(os.devnull, "r+b") as nothing:
            os.dup2(nothing.fileno(), 0)
            modules = _import(files, root)
            for fd in (1, 2):
                os.dup2(nothing.fileno(), fd)
        del os.environ[IN_STEP]
        if os.fork():
            os._exit(0)
        cloner, rules = Cloner(), _judge(root, ignore)
        server = Server(cloner, listen(path), path, *rules)
    except NotWarm:
        with contextlib.suppress(OSError), open(path + _warm.COLD, "wb"):
            pass
        return 0
    except Exception:  # each step will tell it
        return 0
    load = run_step._module
    run_step._module = lambda place: modules[place] if place in modules else load(place)
    step = server.serve()
    sys.argv = [os.path.join(os.path.dirname(__file__), "run_step.py"), *step]
    code = run_step.main(step)
    finish(code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
