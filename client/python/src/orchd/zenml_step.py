"""A ZenML step's first process in a container: `python -I zenml_step.py PAYLOAD WORD…`, run in this folder, which is
all that the container has of this package. WORD… is ZenML's own command of the step. Since ZenML learns of a step's end
from the step alone, this process stays, and tells it if the step could not; see `orchd.zenml.containers`.

Only the standard library, of any Python that ZenML is for.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from types import FrameType

_PASSED_ON: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
ENDED = ".zenml-ended"  # as `_warm`
AGAIN = 113


def run(command: list[str]) -> tuple[bool, int]:
    """Whether it ended by itself, and its exit code or the signal that ended it. Signals are passed on to it."""
    pid = 0
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if pid:
            os.kill(pid, number)
        else:
            early.append(number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # what goes to the group of this process would reach it twice
        for number in _PASSED_ON:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for number in early:
            os.kill(os.getpid(), number)
        try:
            os.execvp(command[0], command)  # noqa: S606
        except OSError as fault:
            print(f"orchd: {command[0]}: {fault.strerror}", file=sys.stderr, flush=True)
        os._exit(127)
    pid = child
    for number in early:
        os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    pid = 0
    return (False, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (True, os.WEXITSTATUS(status))


def make_importable() -> None:
    """This package, after all that the image has."""
    folder = os.path.join(os.environ["ORCH_SCRATCH"], "orchd-python")
    os.makedirs(folder, exist_ok=True)
    if not os.path.lexists(os.path.join(folder, "orchd")):
        os.symlink(os.path.dirname(os.path.abspath(__file__)), os.path.join(folder, "orchd"))
    given = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{given}{os.pathsep}{folder}" if given else folder
    os.chdir(os.environ["ORCH_SCRATCH"])  # modules here are called as some of Python's own


def main(words: list[str]) -> int:
    payload, *command = words
    make_importable()
    os.environ["ZENML_ORCHD_CONTAINER"] = "1"
    os.environ.setdefault("ZENML_ORCHD_RUN_ID", os.environ["ORCH_RUN_ID"])
    _say_if_too_different(json.loads(payload)["python"])
    exited, number = run(command)
    if not os.path.exists(os.path.join(os.environ["ORCH_SCRATCH"], ENDED)):  # it had no chance to say how it ended
        how = f"{'exit' if exited else 'signal'} {number}"
        if run([sys.executable, "-m", "orchd.zenml.lost", how, payload]) == (True, AGAIN):
            return AGAIN
        if (exited, number) == (True, 0):
            return 1
    if not exited:
        with contextlib.suppress(OSError):  # of some there is no other way
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return 128 + number
    return number


def _say_if_too_different(client: str) -> None:
    """What was pickled by one minor version may not be readable by another: whoever looks for that finds this line."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if client != here:
        print(f"orchd: this step's image has Python {here}, the client has {client}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
