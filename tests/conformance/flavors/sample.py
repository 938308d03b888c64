"""The sample plug-in in C++: what any program that keeps the contract gets from the daemon."""
from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.conformance.flavor import REFUSED, Does, Flavor, end
from tests.lib.daemon import BIN, Daemon, alive, wait_for
from tests.plugin.test_sample import plugin_pid

SAMPLE = BIN.parent / "plugins/sample/orch-sample"


class Sample(Flavor):
    name = "sample"
    config = {"slots": 8}
    small = {"slots": 2}
    lost_answer_point = "plugin.submitted"
    seconds = 60
    jobs_survive = True
    words = {"what_a_step_finds": REFUSED, "memory": REFUSED, "gpu": REFUSED,
             "custom": REFUSED}
    lacks = {
        "secrets_are_seen_by_nobody_else": "steps with secrets are refused at submit",
        "out_of_memory_is_told": "a step that asks for memory is refused",
        "a_refusal_for_now_is_tried_again": "it refuses nothing for now",
        "jobs_of_others_are_left_alone": "nobody else has jobs there",
    }

    def register(self, daemon: Daemon) -> str:
        daemon.ctl("register-flavor", SAMPLE)
        return super().register(daemon)

    def restart(self, daemon: Daemon) -> None:
        pid = plugin_pid(daemon, "conformance")
        end(pid)  # the daemon starts another
        wait_for("the plug-in to end", lambda: not alive(pid))

    def take_away(self, daemon: Daemon) -> str:
        self.stopped = plugin_pid(daemon, "conformance")
        os.kill(self.stopped, signal.SIGSTOP)
        return "did not answer within"

    def bring_back(self, daemon: Daemon) -> None:
        end(self.stopped, signal.SIGCONT)

    def jobs(self, daemon: Daemon) -> list[str]:
        folder = daemon.data / "plugins/conformance"
        return [str(path) for part in ("state/jobs", "attempts") for path in (folder / part).glob("*")]

    def refused_for_good(self, shared: Path) -> tuple[dict[str, Any], str]:
        return self.step("a", Does(), shared, working_dir="/no/such/folder"), "cannot be executed"

    def wait_ended(self, daemon: Daemon, step: str) -> None:
        jobs = daemon.data / "plugins/conformance/state/jobs"
        wait_for("its end", lambda: all((job / "status").exists() for job in jobs.iterdir()), self.seconds)


FLAVOR = Sample()
