"""examples/heartbeat and examples/retry: what hangs is noticed, what failed is gone on with."""
import unittest

from tests.lib.daemon import ROOT, Daemon


class Control(unittest.TestCase):
    def test_a_step_that_hangs_once(self) -> None:
        with Daemon("grace: 300ms\n") as daemon:
            run = daemon.ctl("submit", ROOT / "examples/heartbeat/pipeline.yaml", "-p", "beats=5").stdout.split()[0]
            daemon.ctl("wait-run", run)
            attempts = daemon.json("get-step", run, "hangs-once")["attempts"]
            self.assertEqual([(a["state"], a["reason"]) for a in attempts],
                             [("TIMED_OUT", "HEARTBEAT_TIMEOUT"), ("SUCCEEDED", "REASON_UNSPECIFIED")])
            self.assertEqual(len(daemon.json("get-step", run, "steady")["attempts"]), 1)

    def test_a_run_that_goes_on(self) -> None:
        with Daemon() as daemon:
            ready = daemon.home / "ready"
            run = daemon.ctl("submit", ROOT / "examples/retry/pipeline.yaml", "-p", f"ready={ready}", "--wait", code=1).stdout.split()[0]
            ready.touch()
            daemon.ctl("retry-run", run, "--wait")
            steps = daemon.steps(run)
            self.assertEqual({n: s["attempt"] for n, s in steps.items()}, {"prepare": 1, "needs-it": 2, "tell": 1, "tidy": 2})
            self.assertEqual(daemon.ctl("logs", run, "needs-it").stdout, "42\n")


if __name__ == "__main__":
    unittest.main()
