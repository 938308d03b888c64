"""examples/digits on local and on Tekton, a TaskRun a step and as one PipelineRun, its files by the daemon's HTTP and by S3: the same bytes."""
from __future__ import annotations

import shutil
import unittest

from tests.lib.daemon import ROOT
from tests.lib.digits import DigitsOnACluster
from tests.lib.tekton import TektonCluster


class OnTekton(DigitsOnACluster):
    flavor = "tekton"
    platform = TektonCluster

    def as_one(self) -> None:
        """`whole` takes whole runs, and the pipeline is one: it has retries, which need a run that stops at a failure."""
        self.register("whole", granularity="run")
        folder = self.daemon.home / "digits"
        shutil.copytree(ROOT / "examples/digits", folder)
        self.digits = folder / "pipeline.yaml"
        self.digits.write_text(self.digits.read_text() + "\nexecution_mode: stop_on_failure\n")
        self.assertEqual(self.daemon.json("plan", self.digits, "--orchestrator", "whole")["unit"], "run")


class Digits(OnTekton):
    def test_by_the_daemons_own_store(self) -> None:
        self.same("by-http", "--orchestrator", "k8s")

    def test_by_s3(self) -> None:
        bucket = self.stack()
        self.same("by-s3", "--stack", "prod")
        self.in_bucket(bucket)

    def test_as_one_run_by_the_daemons_own_store(self) -> None:
        self.as_one()
        self.same("by-http", "--orchestrator", "whole")

    def test_as_one_run_by_s3(self) -> None:
        self.as_one()
        bucket = self.stack("whole")
        self.same("by-s3", "--stack", "prod")
        self.in_bucket(bucket)


del DigitsOnACluster, OnTekton

if __name__ == "__main__":
    unittest.main()
