"""Processes of this machine, under the daemon's supervisor."""
from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

from tests.conformance.flavor import Does, Flavor, end
from tests.lib.daemon import Daemon, alive, wait_for


class Local(Flavor):
    name = "local"
    orchestrator = "local"
    lost_answer_point = "local.spawn_sent"
    seconds = 20
    lacks = {
        "out_of_memory_is_told": "memory is counted and not enforced",
        "a_refusal_for_now_is_tried_again": "this machine refuses nothing for now", "the_platform_is_away": "it is this machine",
    }

    def restart(self, daemon: Daemon) -> None:
        pid = daemon.supervisor_pid()
        assert pid
        end(pid)  # the daemon starts another
        wait_for("the supervisor to end", lambda: not alive(pid))

    def jobs(self, daemon: Daemon) -> list[str]:
        mark = b"ORCH_ENDPOINT=unix:" + str(daemon.data).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    environment = (entry / "environ").read_bytes()
                    if b"ORCH_FENCE=" in environment and mark in environment and alive(int(entry.name)):
                        found.append(f"process {entry.name}")
        for slot in (daemon.data / "local").rglob("*"):
            if slot.is_file() and slot.parent.name in ("scratch", "output", "out"):
                found.append(str(slot))
        return found

    def refused_for_good(self, shared: Path) -> tuple[dict[str, Any], str]:
        return self.step("a", Does(), shared, working_dir="/no/such/folder"), "/no/such/folder"

    def wait_ended(self, daemon: Daemon, step: str) -> None:
        wait_for("its end", lambda: not [job for job in self.jobs(daemon) if job.startswith("process")], every=0.05)

    def make_foreign(self, daemon: Daemon) -> str:
        other = subprocess.Popen(["sleep", "1000"], env={"ORCH_RUN_ID": "somebody-else", "ORCH_FENCE": "q" * 20})
        self.other = other
        return str(other.pid)

    def has_foreign(self, name: str) -> bool:
        there = alive(int(name))
        self.other.kill()
        self.other.wait()
        return there


FLAVOR = Local()
