"""Starting a daemon for this user, when a submission finds none."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import time
from typing import TYPE_CHECKING

from . import _processes
from ._discover import Endpoint, discover, find_data_dir
from .errors import NotFound, Unreachable

if TYPE_CHECKING:
    import subprocess

_START_SECONDS = 20.0
# How long after its own daemon's end a caller looks for the one that won the race for the directory.
_RIVAL_SECONDS = 3.0


def find_program() -> str:
    """ORCHD_BIN, else `orchd` on PATH, else beside this interpreter, else in the build folder of a checkout."""
    named = os.environ.get("ORCHD_BIN")
    if named:
        found = shutil.which(named)
        if found is None:
            raise NotFound("ORCHD_NOT_FOUND", f"ORCHD_BIN names {named}, which is no program")
        return os.path.abspath(found)
    checkout = pathlib.Path(__file__).resolve().parents[4]
    beside = [pathlib.Path(sys.executable).parent / "orchd", checkout / "build" / "release" / "bin" / "orchd"]
    for candidate in [shutil.which("orchd"), *map(str, beside)]:
        if candidate and os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return os.path.abspath(candidate)
    raise NotFound(
        "ORCHD_NOT_FOUND",
        "no daemon is running, and there is no `orchd` on PATH to start: install it, set ORCHD_BIN, "
        "or name a running one with ORCH_SERVER",
    )


def _last_line(log: str, begin: int) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(begin)
            lines = file.read(1 << 20).decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line[:500] for line in reversed(lines) if line), "")


def _await(data_dir: str, token: str | None, child: subprocess.Popen[bytes]) -> Endpoint | None:
    deadline = time.monotonic() + _START_SECONDS
    ended = False
    while True:
        try:
            return discover(None, token, data_dir)
        except Unreachable:
            pass
        if not ended and child.poll() is not None:
            ended = True
            deadline = min(deadline, time.monotonic() + _RIVAL_SECONDS)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.01)


def start_daemon(data_dir: str | None, token: str | None) -> Endpoint:
    """Starts `orchd` in a session of its own, its output in DIR/orchd.log, and waits until it listens.

    It outlives this process. It gets the default ports, or, if it ends at once with those, ports the kernel chooses.
    """
    folder = os.path.abspath(find_data_dir(data_dir))
    program = find_program()
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError as failure:
        raise Unreachable("DAEMON_START_FAILED", f"cannot make the data directory {folder}: {failure}") from None
    log = os.path.join(folder, "orchd.log")
    fallback = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
    last = ""
    for ports in ([], fallback):
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            begin = os.fstat(fd).st_size
            child = _processes.start([program, "--data-dir", folder, *ports], output=fd)
        except OSError as failure:
            raise Unreachable("DAEMON_START_FAILED", f"cannot start {program}: {failure}") from None
        finally:
            os.close(fd)
        endpoint = _await(folder, token, child)
        if endpoint is not None:
            if endpoint.pid == child.pid:
                print(
                    f"orchd: started a daemon on {folder} (pid {child.pid}); stop it with `kill {child.pid}`",
                    file=sys.stderr,
                )
            child.returncode = 0 if child.returncode is None else child.returncode  # ours to leave running, not to reap
            return endpoint
        last = _last_line(log, begin)
        if child.poll() is None:
            break  # it still runs: starting another cannot help
    why = f": {last}" if last else ""
    raise Unreachable("DAEMON_START_FAILED", f"started {program} on {folder}, but it does not serve{why}; see {log}")
