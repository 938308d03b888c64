"""Which steps of a submission go to warm workers, and starting those."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from . import _cells, _places, _processes, _warm
from ._discover import answers
from ._marks import ROOM, ROOM_BYTES, TAKEN_OVER

if TYPE_CHECKING:
    from ._built import Built
    from .client import Client

_CLIENT = os.path.join(os.path.dirname(os.path.abspath(_warm.__file__)), "_warm_start.py")
_WORTH_IT = 3  # steps; below that a worker costs more than it saves
_COLD_SECONDS = 600  # until it is tried again
_MOST_WORKERS = 4  # that one submission starts


def use_workers(built: Built, client: Client) -> None:
    """Makes the commands of steps those that ask a worker. Where none answers they become fresh processes."""
    if not client._endpoint().address.startswith("unix:"):
        return  # this machine's daemon alone sees this package and the worker
    for call, step in zip(built.graph.calls, built.spec["steps"]):
        command = step["command"]
        if command[0] == sys.executable and command[1:3] == ["-m", "orchd.run_step"] and _permits(call, step, built):
            step["command"] = [command[0], "-IS", _CLIENT, *command[3:]]


def start_workers(built: Built) -> None:
    """Starts those that the steps want and that do not run. It never raises."""
    wanted: dict[tuple[tuple[str, str], ...], list[tuple[list[str], bool]]] = {}
    for call, step in zip(built.graph.calls, built.spec["steps"]):
        if step["command"][1:3] != ["-IS", _CLIENT]:
            continue
        place = step["command"][3].rpartition(":")[0]
        files = list(built.graph.cells_of(call).modules) if place == _cells.PLACE else [place]
        env = {**built.spec["defaults"].get("env", {}), **step.get("env", {})}
        key = tuple(sorted((str(name), str(value)) for name, value in env.items()))
        wanted.setdefault(key, []).append((files, call.mapped))
    for env_items, places in list(wanted.items())[:_MOST_WORKERS]:
        with contextlib.suppress(OSError):
            _start(dict(env_items), places, built.source)


def _permits(call: Any, step: dict[str, Any], built: Built) -> bool:
    defaults = built.spec["defaults"]
    isolation = call.options.get("isolation", built.isolation)
    own = ("secrets", "working_dir", "source", "image")
    given = {**{name: value for name, value in defaults.items() if name != "source"}, **step}
    return isolation != "process" and sys.platform == "linux" and not any(given.get(field) for field in own)


def _start(env: dict[str, str], places: list[tuple[list[str], bool]], source: _places.Source) -> None:
    uid = os.geteuid()
    folder = _warm.FOLDER % uid
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    if not _warm.is_private(folder, uid):
        return
    root = os.path.realpath(source.path)
    shared = {name: os.environ[name] for name in TAKEN_OVER if name in os.environ}
    shared.update({name: value.replace("$$", "$") for name, value in env.items()})
    encoded = {os.fsencode(name): os.fsencode(value) for name, value in shared.items()}
    path = _warm.socket_path(uid, os.fsencode(sys.executable), os.fsencode(root), encoded)
    with contextlib.suppress(OSError):
        if time.time() - os.stat(path + _warm.COLD).st_mtime < _COLD_SECONDS:
            return
    if answers(path) or (len(places) < _WORTH_IT and not any(mapped for _, mapped in places)):
        return
    files = list(dict.fromkeys(place for some, _ in places for place in some))
    words = [sys.executable, "-m", "orchd._worker", *source.ignore, "--", *files]
    _processes.leave(_processes.start(words, root, {ROOM: "x" * ROOM_BYTES, **shared}))
