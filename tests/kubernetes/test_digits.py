"""examples/digits unchanged on local and on a real cluster, whose pods get and give their files by the daemon's HTTP or by S3."""
from __future__ import annotations

import unittest

from tests.lib.digits import DigitsOnACluster


class Digits(DigitsOnACluster):
    def test_by_the_daemons_own_store(self) -> None:
        self.same("by-http", "--orchestrator", "k8s")

    def test_by_s3(self) -> None:
        bucket = self.stack()
        self.same("by-s3", "--stack", "prod")
        self.in_bucket(bucket)


del DigitsOnACluster

if __name__ == "__main__":
    unittest.main()
