"""Starting processes that outlive this one, or are apart from it: nothing of this process is in them but what they are
given.

Python forks for a process that is to have a session, a folder or closed files of its own, and then what libraries have
asked to be done in forks is done there: gRPC starts threads then, and may end the child before it is the program. So
it is spawned instead, as `_spawned`, which makes all of that and becomes the program.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from . import _spawned

_SPAWNED = os.path.abspath(_spawned.__file__)


def start(
    words: Sequence[str],
    folder: str = "/",
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    output: int | IO[Any] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """In a session of its own, in `folder`, with no file open but the three. A program that cannot be started ends
    with `_spawned.NOT_STARTED`, and says so in its output. Raises OSError."""
    return subprocess.Popen(
        [sys.executable or "python3", "-IS", _SPAWNED, folder, *words],
        env=environment,
        stdin=stdin,
        stdout=output,
        stderr=output,
        close_fds=False,  # with it Python would fork; what is open is closed by `_spawned`
    )


def leave(started: subprocess.Popen[bytes]) -> None:
    """It goes on as a process of its own; if it ends before this one, it is no zombie."""
    threading.Thread(target=started.wait, daemon=True).start()
