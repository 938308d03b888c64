"""examples/pools: never more steps in the pool than it has slots."""
import unittest

from tests.lib.daemon import ROOT, Daemon


class Pools(unittest.TestCase):
    def test_two_connections_for_ten_downloads(self) -> None:
        with Daemon() as daemon:
            daemon.ctl("create-pool", "connections", "--slots", 2)
            run = daemon.ctl("submit", ROOT / "examples/pools/pipeline.yaml", "-p", "seconds=0.05").stdout.split()[0]
            daemon.ctl("wait-run", run)
            self.assertEqual(daemon.ctl("logs", run, "join").stdout.split(), [str(n) for n in range(10)])
            changes = []
            for n in range(10):
                begin, end = map(float, daemon.ctl("logs", run, f"download[{n}]").stdout.split())
                changes += [(begin, 1), (end, -1)]
            together = most = 0
            for _, change in sorted(changes):
                together += change
                most = max(most, together)
            self.assertEqual(most, 2)


if __name__ == "__main__":
    unittest.main()
