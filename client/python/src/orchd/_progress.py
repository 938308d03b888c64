"""How a run goes, live: lines that are drawn again on a terminal, one line for each change elsewhere, a table that
renews itself in a notebook."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from .errors import WaitTimedOut
from .types import STEP_ENDED, Event

if TYPE_CHECKING:
    from ._built import Built

_SIGNS = {
    "SUCCEEDED": ("✓", "32"), "CACHED": ("✓", "36"), "FAILED": ("✗", "31"), "CANCELLED": ("✗", "33"),
    "SKIPPED": ("-", "90"), "RUNNING": ("▶", "34"), "BACKOFF": ("↻", "33"), "STOPPING": ("■", "33"),
}  # fmt: skip
_LIVE = ("RUNNING", "BACKOFF", "STOPPING")
_MOST_LINES = 20
_DRAW_SECONDS = 0.1


class Followed(Protocol):
    """What is asked of a run."""

    _built: Built | None

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str: ...

    def watch(self) -> Iterator[Event]: ...


class _Board:
    """The states of all steps, and since when."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.since: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.why: dict[str, str] = {}

    def take(self, event: Event) -> bool:
        """False: nothing to see."""
        if not event.step or not event.state or self.states.get(event.step) == event.state:
            return False
        at = event.time.timestamp() if event.time else time.time()
        if event.state == "RUNNING":
            self.since[event.step] = at
        if event.state in STEP_ENDED and event.step in self.since:
            self.seconds[event.step] = max(0.0, at - self.since[event.step])
        self.states[event.step] = event.state
        self.why[event.step] = event.reason if event.state in ("FAILED", "SKIPPED", "CANCELLED") else ""
        return True

    def count(self) -> str:
        done = sum(state in STEP_ENDED for state in self.states.values())
        return f"{done}/{len(self.states)}"

    def line(self, step: str, color: bool) -> str:
        state = self.states[step]
        sign, code = _SIGNS.get(state, ("·", "90"))
        seconds = self.seconds.get(step)
        if state in _LIVE and step in self.since:
            seconds = max(0.0, time.time() - self.since[step])
        took = f"  {seconds:.1f} s" if seconds is not None else ""
        why = f"  {self.why[step]}" if self.why.get(step) else ""
        mark = f"\x1b[{code}m{sign}\x1b[0m" if color else sign
        return f"{mark} {step}  {state.lower()}{took}{why}"


def _header(run: Followed) -> list[str]:
    lines = [f"run {run.name}" + (f"  {run.url}" if run.url else "")]
    if run._built is not None:
        lines.append(f"code {run._built.source}")
    return lines


class _Plain:
    """For logs and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def begin(self, run: Followed) -> None:
        print(*_header(run), sep="\n", file=self._out, flush=True)

    def show(self, board: _Board, event: Event) -> None:
        if event.state in STEP_ENDED or event.state == "BACKOFF":
            print(board.line(event.step, False), file=self._out, flush=True)

    def end(self, board: _Board) -> None:
        pass


class _Terminal(_Plain):
    """Steps that ended scroll away; those that run stay at the bottom."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._drawn = 0
        self._last = 0.0
        self._color = "NO_COLOR" not in os.environ

    def show(self, board: _Board, event: Event) -> None:
        text = ""
        if event.state in STEP_ENDED:
            text = self._clear() + board.line(event.step, self._color) + "\n"
        elif time.monotonic() - self._last < _DRAW_SECONDS:
            return
        self._out.write(text + self._live(board))
        self._out.flush()
        self._last = time.monotonic()

    def _clear(self) -> str:
        up, self._drawn = self._drawn, 0
        return f"\x1b[{up}A\x1b[J" if up else ""

    def _live(self, board: _Board) -> str:
        size = shutil.get_terminal_size()
        text = self._clear()
        names = [name for name, state in board.states.items() if state in _LIVE]
        most = max(1, min(_MOST_LINES, size.lines - 3))
        lines = [board.line(name, False) for name in names[:most]]
        if len(names) > most:
            lines.append(f"  … and {len(names) - most} more")
        lines.append(f"  {board.count()} steps")
        self._drawn = len(lines)
        return text + "".join(line[: max(10, size.columns - 1)] + "\n" for line in lines)

    def end(self, board: _Board) -> None:
        self._out.write(self._clear())
        self._out.flush()


class _Notebook(_Plain):
    """The run's own table, renewed in place."""

    def __init__(self, run: Followed, display: Callable[..., Any]) -> None:
        super().__init__(sys.stderr)
        self._run = run
        self._handle = display(run, display_id=True)
        self._last = 0.0

    def begin(self, run: Followed) -> None:
        pass

    def show(self, board: _Board, event: Event) -> None:
        if time.monotonic() - self._last >= 0.5:
            self._handle.update(self._run)
            self._last = time.monotonic()

    def end(self, board: _Board) -> None:
        self._handle.update(self._run)


def _viewer(run: Followed) -> _Plain | None:
    if "ipykernel" in sys.modules:
        from IPython.display import display  # type: ignore[import-not-found,unused-ignore]

        return _Notebook(run, display)
    try:
        terminal = sys.stderr.isatty()
    except (AttributeError, ValueError):
        return None
    if terminal and os.environ.get("TERM", "dumb") != "dumb":
        return _Terminal(sys.stderr)
    return _Plain(sys.stderr)


def follow(run: Followed, timeout: float | None) -> None:
    """Shows the run until its end. Raises WaitTimedOut."""
    viewer = _viewer(run)
    if viewer is None:
        return
    end = None if timeout is None else time.monotonic() + timeout
    board = _Board()
    viewer.begin(run)
    try:
        for event in run.watch():
            if board.take(event):
                viewer.show(board, event)
            if end is not None and time.monotonic() >= end:
                raise WaitTimedOut("WAIT_TIMED_OUT", f"the run {run.name} has not ended after {timeout} s; it goes on")
    finally:
        viewer.end(board)
