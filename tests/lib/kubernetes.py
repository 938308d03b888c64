"""A real Kubernetes of one node for a test, started and stopped by tests/platforms/kubernetes."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

from tests.lib.daemon import ROOT, wait_for

SCRIPTS = ROOT / "tests/platforms/kubernetes"
IMAGE = "localhost/orch-test:1"


class Cluster:
    """`up` skips the test where no cluster can be had, and says why. With ORCH_TEST_CLUSTER it is one that runs already in that folder,
    which is left alone."""

    def __init__(self, launcher: Path | None = None, simulated: int = 0, **environment: str) -> None:
        """With so many simulated nodes, and more for the environment of `up`."""
        self.more = ["--simulated", str(simulated)] if simulated else []
        self.kept = os.environ.get("ORCH_TEST_CLUSTER", "")
        self.folder = Path(self.kept or tempfile.mkdtemp(prefix="orchd-kubernetes-"))
        self.kubeconfig = self.folder / "kubeconfig"  # of the account that orchd has
        self.environment = {**os.environ, "ORCH_TEST_OWNER": str(os.getpid()), **environment}
        if launcher:
            self.environment["ORCH_LAUNCH"] = str(launcher)

    def up(self) -> None:
        if self.kept:
            return
        done = subprocess.run([SCRIPTS / "up", self.folder, *self.more], capture_output=True, text=True, timeout=3000, env=self.environment)
        if done.returncode != 0:
            log = self.folder / "log/start"
            more = log.read_text(errors="replace")[-1500:] if log.exists() else ""
            self.down()
            if done.returncode == 3:  # it cannot be had here
                raise unittest.SkipTest("no Kubernetes: " + done.stderr.strip()[-500:])
            raise AssertionError(f"the cluster does not come up: {done.stderr[-500:]}{more}")

    def down(self) -> None:
        if self.kept:
            return
        subprocess.run([SCRIPTS / "down", self.folder], capture_output=True, timeout=120)
        shutil.rmtree(self.folder, ignore_errors=True)

    def part(self, *words: str) -> str:
        done = subprocess.run([SCRIPTS / "part", self.folder, *words], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout

    def kubectl(self, *words: str) -> str:
        """As the administrator."""
        return self.part("kubectl", *words)

    def ready(self) -> None:
        """Waits for the API server."""
        def answers() -> bool:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                self.kubectl("get", "--raw", "/readyz")
                return True
            return False
        wait_for("the API server", answers, 180, every=0.3)

    def list(self, kind: str, space: str = "orchd") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self.kubectl("-n", space, "get", kind, "-o", "json"))["items"]
        return items

    @property
    def here(self) -> str:
        """This machine's address, as pods see it."""
        return (self.folder / "here").read_text().strip()

    @property
    def server(self) -> str:
        return f"https://{(self.folder / 'there').read_text().strip()}:6443"
