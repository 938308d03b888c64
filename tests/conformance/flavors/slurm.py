"""Jobs of a real Slurm cluster of one node, by the plug-in that comes with orchd."""
from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, Callable

from tests.conformance.flavor import REFUSED, Does, Flavor
from tests.lib.daemon import Daemon, wait_for
from tests.lib.slurm import PLUGIN, Cluster

FOREIGN = "orch:0000000000000000"


class Slurm(Flavor):
    name = "slurm"
    lost_answer_point = "plugin.submitted"
    seconds = 120
    slow = 3.0
    shares = 2
    jobs_survive = True
    words = {"what_a_step_finds": REFUSED, "custom": REFUSED}
    lacks = {"secrets_are_seen_by_nobody_else": "steps with secrets are refused at submit"}
    small = {"cpus": 2, "memory": "1Gi", "gpus": 3}

    def up(self) -> None:
        self.cluster = Cluster(cpus=32)
        self.cluster.up()
        self.config = {"slurm_conf": str(self.cluster.conf), "settle_seconds": 5, "cpus": 32, "memory": "8000M", "gpus": 4}

    def down(self) -> None:
        self.cluster.down()

    def register(self, daemon: Daemon) -> str:
        daemon.ctl("register-flavor", PLUGIN)
        return super().register(daemon)

    def restart(self, daemon: Daemon) -> None:
        # Slurm itself keeps only what it has written by then, which it does every five seconds if there is something new: a mark
        # that comes after all else, and so is written with it or later.
        saved, mark = self.cluster.folder / "state/job_state", f"mark-{time.monotonic_ns()}"
        for row in self.cluster.jobs("running"):
            self.cluster.run("scontrol", "update", f"JobId={row[4]}", f"AdminComment={mark}")
        wait_for("it to be saved", lambda: saved.exists() and mark.encode() in saved.read_bytes(), self.seconds, every=0.1)
        os.kill(int((self.cluster.folder / "slurmctld.pid").read_text()), signal.SIGKILL)
        self.cluster.down("slurmctld")
        self.cluster.up("slurmctld")

    def jobs(self, daemon: Daemon) -> list[str]:
        folder = daemon.data / "plugins/conformance"
        files = [str(path) for part in ("state/jobs", "state/batches", "attempts") for path in (folder / part).glob("*")]
        return files + [f"job {row[4]}" for row in self.cluster.jobs("running,pending") if row[3].startswith("orch:") and FOREIGN not in row[3]]

    def take_away(self, daemon: Daemon) -> str:
        self.cluster.down("munged")
        return "munge"

    def bring_back(self, daemon: Daemon) -> None:
        self.cluster.up("munged")

    def refuse_for_now(self, daemon: Daemon) -> None:
        self.cluster.down("munged")

    def refuse_no_more(self, daemon: Daemon, state: Callable[[], str]) -> None:
        wait_for("the word of it", lambda: "orchestrator is away" in daemon.log(), self.seconds, every=0.05)
        assert state() in ("WAITING", "READY", "SUBMITTING"), state()
        self.cluster.up("munged")

    def refused_for_good(self, shared: Path) -> tuple[dict[str, Any], str]:
        step = self.step("a", Does(), shared)
        return {**step, "settings": {"slurm": {"partition": "nowhere"}}}, "invalid partition"

    def wait_ended(self, daemon: Daemon, step: str) -> None:
        wait_for("its end", lambda: not self.cluster.jobs("running,completing"), self.seconds, every=0.2)

    def shown(self, daemon: Daemon) -> dict[str, bytes]:
        files = {str(path): path.read_bytes() for part in ("state", "spool", "log") for path in (self.cluster.folder / part).rglob("*") if path.is_file()}
        return {**files, "scontrol": self.cluster.run("scontrol", "show", "job", "-dd").encode(),
                "squeue": self.cluster.run("squeue", "--json").encode()}

    def make_foreign(self, daemon: Daemon) -> str:
        return self.cluster.run("sbatch", "--parsable", "--job-name=orch-conformance-000000000000", f"--comment={FOREIGN}",
                                "--output=/dev/null", "--wrap=sleep 1000").strip()

    def has_foreign(self, name: str) -> bool:
        there = any(row[4] == name for row in self.cluster.jobs("running,pending"))
        self.cluster.run("scancel", name)
        return there


FLAVOR = Slurm()
