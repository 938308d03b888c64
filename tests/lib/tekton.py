"""Tekton's real controller and webhook in a real Kubernetes of one node, for a test."""
from __future__ import annotations

import subprocess
import unittest

from tests.lib.daemon import ROOT
from tests.lib.kubernetes import Cluster

SCRIPTS = ROOT / "tests/platforms/tekton"


class TektonCluster(Cluster):
    """As a Cluster; with ORCH_TEST_CLUSTER it has Tekton already."""

    def up(self) -> None:
        super().up()
        if self.kept:
            return
        done = subprocess.run([SCRIPTS / "up", self.folder], capture_output=True, text=True, timeout=3000)
        if done.returncode == 0:
            return
        self.down()
        if done.returncode == 3:
            raise unittest.SkipTest("no Tekton: " + done.stderr.strip()[-500:])
        raise AssertionError(f"Tekton does not come up: {done.stderr[-2000:]}")
