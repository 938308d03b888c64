"""What a flavor's file says of it, so that both suites can prove it: how its platform starts, which orchestrator is
registered, what is on the platform. The defaults are those of a flavor whose steps are commands with a shell at hand.
"""
from __future__ import annotations

import json
import os
import re
import shlex
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from tests.lib.daemon import Daemon

NATIVE, DAEMON, REFUSED, YES = "native", "daemon", "refused at submit", "yes"
STEPWISE = ", step by step"  # behind a word of a flavor of whole runs: such a run is none
COUNTED, KEPT, ASKED = "counted", "counted, and kept to", "asked of the platform"


@dataclass
class Does:
    """What a step of a test does; in this order."""
    on_term: str = ""  # "ignore" it, or "say" that it came and end well
    out: str = ""
    err: str = ""
    gate: str = ""  # wait until the test opens the gate of that name
    hold: bool = False  # go on for longer than any test
    outputs: dict[str, str] = field(default_factory=dict)
    fails_first: int = 0  # so many attempts fail with exit code 1
    memory: bool = False  # take all there is, and more
    signal: str = ""  # end itself by this one: "SEGV"
    exit: int = 0
    script: str = ""  # more for the shell, before the end


class Flavor:
    name = ""
    variant = ""  # another configuration of the same flavor: a column of its own in the first table alone
    granularity = "step"  # one column of the tables each
    orchestrator = ""  # what it is registered as; empty: `conformance`
    config: dict[str, Any] = {}  # of the orchestrator
    daemon_config = "grace: 1s\n"
    daemon_flags: list[str] = []
    daemon_ca: Path | None = None  # who signs the certificate that these name
    slow = 1.0  # how long a test takes here, beside a flavor of processes
    shares = 1  # processes that share the tests of one suite, each with a platform of its own
    alone = ""  # a word: of the flavors that say the same, one suite runs at a time, as their platforms take all of the machine
    seconds = 60  # in which a step of nothing certainly ends on this platform
    # Killed here, the daemon has handed a submission over and does not know what became of it.
    lost_answer_point = "outbox.submitted"
    # By row of a table: another word than the row's usual one; why there is no test, and so no word.
    words: dict[str, str] = {}
    lacks: dict[str, str] = {}
    image_needed = False  # its steps run in images of their own

    # --- the platform; one for all tests of a suite ---

    def up(self) -> None:
        """Starts it; unittest.SkipTest with the reason where it cannot be had."""

    def down(self) -> None:
        """Stops it, and removes what it had."""

    def restart(self, daemon: Daemon) -> None:
        """It dies as by kill -9 and comes back, with what it keeps over that."""
        raise NotImplementedError

    def register(self, daemon: Daemon) -> str:
        """Registers an orchestrator; its name."""
        if self.orchestrator:
            return self.orchestrator
        file = daemon.file(json.dumps(self.config), "conformance-config.json")
        daemon.ctl("register-orchestrator", "conformance", "--flavor", self.name, "--config-file", file)
        return "conformance"

    # Of a small orchestrator: it offers 2 CPUs, 1 GiB, 3 GPUs and one `seat`.
    small: dict[str, Any] = {"cpus": 2, "memory": "1Gi", "gpus": 3, "custom": {"seat": 1}}

    def register_small(self, daemon: Daemon) -> str:
        """Registers a small one; its name."""
        file = daemon.file(json.dumps({**self.config, **self.small}), "small-config.json")
        daemon.ctl("register-orchestrator", "small", "--flavor", self.name, "--config-file", file)
        return "small"

    def limits(self, daemon: Daemon, step: str) -> dict[str, Any]:
        """What the platform says a running step may have: `cpu` and `memory` (bytes; 0: all there is)."""
        raise NotImplementedError

    def jobs(self, daemon: Daemon) -> list[str]:
        """What the platform has of this daemon's: jobs, containers, processes, folders of attempts."""
        raise NotImplementedError

    jobs_survive = False  # `restart`

    def take_away(self, daemon: Daemon) -> str:
        """The platform cannot be used any more; small words of what is said of it then."""
        raise NotImplementedError

    def bring_back(self, daemon: Daemon) -> None:
        """It can be used again."""

    def refuse_for_now(self, daemon: Daemon) -> None:
        """Whatever is submitted from now on is refused for now."""

    def refuse_no_more(self, daemon: Daemon, state: Callable[[], str]) -> None:
        """It is accepted again; `state` is the step's, which waits."""

    def refused_for_good(self, shared: Path) -> tuple[dict[str, Any], str]:
        """A step that the platform refuses for good, and words of its message."""
        raise NotImplementedError

    def wait_ended(self, daemon: Daemon, step: str) -> None:
        """Until the platform knows that the step's job has ended; no daemon runs."""
        raise NotImplementedError

    def shown(self, daemon: Daemon) -> dict[str, bytes]:
        """All that the platform shows of this daemon's jobs to those who may look, by where it is: no secret is in it."""
        return {}

    def make_foreign(self, daemon: Daemon) -> str:
        """A job of somebody else's, as like ours as can be; what it is called."""
        raise NotImplementedError

    def has_foreign(self, name: str) -> bool:
        """Whether it is there, untouched."""
        raise NotImplementedError

    # --- its steps ---

    def settings(self, shared: Path) -> dict[str, Any]:
        """A step's settings, so that it sees that folder at its own path."""
        return {}

    def step(self, name: str, does: Does, shared: Path, **more: Any) -> dict[str, Any]:
        """The step as a pipeline says it. What its tests need is below `shared`."""
        lines = [f"echo $ORCH_ATTEMPT >> {shared}/marks/$ORCH_STEP"]
        if does.on_term == "ignore":
            lines.append("trap '' TERM")
        elif does.on_term == "say":
            lines.append(f"trap 'echo terminated >> {shared}/terminated; echo stopping; exit 0' TERM")
        if does.out:
            lines.append(f"printf '%s' {shlex.quote(does.out)}")
        if does.err:
            lines.append(f"printf '%s' {shlex.quote(does.err)} >&2")
        if does.gate:
            lines.append(f"while [ ! -e {shared}/gate-{does.gate} ]; do sleep 0.05; done")
        if does.hold:
            lines.append("n=0; while [ $n -lt 20000 ]; do sleep 0.05; n=$((n+1)); done")
        for output, text in does.outputs.items():
            lines.append(f"printf '%s' {shlex.quote(text)} > $ORCH_OUTPUT_{re.sub('[^A-Z0-9]', '_', output.upper())}")
        if does.script:
            lines.append(does.script)
        if does.fails_first:
            lines.append(f"[ $ORCH_ATTEMPT -gt {does.fails_first} ] || exit 1")
        if does.memory:
            lines.append("x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done")
        if does.signal:
            lines.append(f"kill -{does.signal} $$$$")
        if does.exit:
            lines.append(f"exit {does.exit}")
        step: dict[str, Any] = {"name": name, "command": ["sh", "-c", "\n".join(lines)], **more}
        settings = self.settings(shared)
        if settings:
            step["settings"] = {self.name: settings}
        return step

    def executions(self, daemon: Daemon, step: str, shared: Path) -> list[int]:
        """The attempts of a step that have begun, as they themselves say."""
        path = shared / "marks" / step
        return [int(line) for line in path.read_text().split()] if path.exists() else []


def end(pid: int, sig: int = signal.SIGKILL) -> None:
    """Of a process that the test knows to be its own."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass
