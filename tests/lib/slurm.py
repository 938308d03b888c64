"""A real Slurm cluster of one node for a test, started and stopped by tests/platforms/slurm."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.lib.daemon import BIN, ROOT

SCRIPTS = ROOT / "tests/platforms/slurm"
PLUGIN = BIN.parent / "plugins/slurm/orch-slurm"


class Cluster:
    """`up` skips the test where no cluster can be had, and says why."""

    def __init__(self, cpus: int = 16, accounting: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="orchd-slurm-"))
        self.conf = self.folder / "slurm.conf"
        self.environment = dict(os.environ, ORCH_SLURM_CPUS=str(cpus), SLURM_CONF=str(self.conf))
        if accounting:
            self.environment["ORCH_SLURM_ACCOUNTING"] = "1"

    def up(self, *parts: str) -> None:
        done = subprocess.run([SCRIPTS / "up", self.folder, *parts], capture_output=True, text=True, timeout=400, env=self.environment)
        if done.returncode == 0:
            return
        if not parts:
            self.down()
        if done.returncode == 3 and not parts:
            raise unittest.SkipTest("no Slurm: " + done.stderr.strip()[-300:])
        # It can be had, or was there before: a fault, and no reason to skip.
        raise AssertionError(f"{' '.join(parts) or 'all'} of Slurm did not come up: {done.stderr.strip()[-1000:]}")

    def hide(self, folder: Path) -> None:
        """The node does not see that folder any more."""
        self.down("slurmd")
        self.environment["ORCH_SLURM_HIDE"] = str(folder)
        self.up("slurmd")

    def kill(self, part: str) -> None:
        """As by kill -9."""
        os.kill(int((self.folder / f"{part}.pid").read_text()), signal.SIGKILL)
        self.down(part)

    def kill_and_forget(self, keep: Path) -> None:
        """slurmctld is killed, and comes back with what it had saved in `keep`: what came since it has not saved."""
        self.kill("slurmctld")
        shutil.rmtree(self.folder / "state")
        shutil.copytree(keep, self.folder / "state")
        self.up("slurmctld")

    def down(self, *parts: str) -> None:
        subprocess.run([SCRIPTS / "down", self.folder, *parts], capture_output=True, timeout=120)
        if not parts:
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout

    @property
    def node(self) -> str:
        return next(line.split("=", 1)[1].split()[0] for line in self.conf.read_text().splitlines() if line.startswith("NodeName="))

    def jobs(self, states: str = "all") -> list[list[str]]:
        """Array id, task, state, comment of each."""
        out = self.run("squeue", "-h", "-r", "-t", states, "-o", "%F|%K|%T|%k|%A")
        return [line.split("|") for line in out.splitlines()]

    def holds_memory(self) -> bool:
        return (self.folder / "cgroup.conf").exists()
