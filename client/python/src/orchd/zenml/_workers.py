"""Starting the warm worker that steps of ZenML are handed to; the program is `_worker`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import sysconfig
import types
from collections.abc import Mapping
from typing import Any

from .. import _processes, _warm
from .._discover import answers
from .._forking import listen
from .._marks import NO_FORK, ROOM, ROOM_BYTES, TAKEN_OVER


def folder() -> str | None:
    """Where the sockets are; None if nobody may have one there."""
    if sys.platform != "linux":
        return None
    path = _warm.FOLDER % os.geteuid()
    with contextlib.suppress(OSError):
        os.mkdir(path, 0o700)
    return path if _warm.is_private(path, os.geteuid()) else None


def socket_of(environment: Mapping[str, str], root: str) -> str:
    """Of the worker for this interpreter, source root and environment; `-` if there can be none."""
    parent = folder()
    if parent is None:
        return "-"
    words = [sys.executable, root, sorted(_shared(environment).items())]
    return f"{parent}/z{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]}.sock"


def _shared(environment: Mapping[str, str]) -> dict[str, str]:
    """What a step gets from the daemon and the pipeline alike."""
    return {**{name: os.environ[name] for name in TAKEN_OVER if name in os.environ}, **environment}


def start(socket: str, environment: Mapping[str, str], root: str, idle_seconds: int) -> None:
    """Unless it runs. The socket is there at once, so that steps can wait for it. It never raises."""
    if socket == "-" or answers(socket):
        return
    words = [sys.executable, "-m", "orchd.zenml._worker", socket, str(idle_seconds), *_libraries(root)]
    with contextlib.suppress(OSError):
        with listen(socket) as listener:
            own = {ROOM: "x" * ROOM_BYTES, **_shared(environment)}
            started = _processes.start(words, environment=own, stdin=listener.fileno())
        _processes.leave(started)


def _libraries(root: str) -> list[str]:
    """Installed modules that the client's own files use: what their steps would import."""
    installed = tuple({os.path.realpath(sysconfig.get_path(kind)) + os.sep for kind in ("purelib", "platlib")})
    found: dict[str, None] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not os.path.realpath(file).startswith(root + os.sep):
            continue
        if os.path.realpath(file).startswith(installed):
            continue
        for value in list(vars(module).values()):
            name = _module_name(value)
            place = getattr(sys.modules.get(name), "__file__", None) if name else None
            if isinstance(place, str) and os.path.realpath(place).startswith(installed):
                found[name] = None
    return [n for n in found if n.partition(".")[0] not in (*NO_FORK, "zenml", "orchd")][:200]


def _module_name(value: Any) -> str:
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", "")
    return name if isinstance(name, str) else ""
