"""examples/flaky: what is tried again and what is not, with its waits."""
import datetime
import unittest

from tests.lib.daemon import ROOT, Daemon


def when(text: str) -> float:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Flaky(unittest.TestCase):
    def test_who_is_tried_again(self) -> None:
        # covers: Retry.exit_codes Retry.backoff Retry.on StepSpec.timeout Pipeline.timeout
        with Daemon("grace: 300ms\n") as daemon:
            folder = daemon.home / "empty"
            folder.mkdir()
            run = daemon.ctl("submit", ROOT / "examples/flaky/pipeline.yaml", "-p", f"folder={folder}", "--wait", code=1).stdout.strip()
            self.assertEqual({name: (step["state"], step["attempt"], step["reason"]) for name, step in daemon.steps(run).items()}, {
                "download": ("SUCCEEDED", 3, "REASON_UNSPECIFIED"), "wrong-address": ("FAILED", 1, "EXIT_CODE"),
                "hangs-once": ("SUCCEEDED", 2, "REASON_UNSPECIFIED"), "always-slow": ("FAILED", 1, "RUN_TIMEOUT")})
            attempts = daemon.json("get-step", run, "download")["attempts"]
            self.assertEqual([a["exit_code"] for a in attempts], [75, 75, 0])
            waits = [when(b["create_time"]) - when(a["end_time"]) for a, b in zip(attempts, attempts[1:])]
            self.assertGreaterEqual(waits[0], 0.089)
            self.assertGreaterEqual(waits[1], 0.179)
            self.assertEqual([a["state"] for a in daemon.json("get-step", run, "hangs-once")["attempts"]], ["TIMED_OUT", "SUCCEEDED"])
            self.assertEqual(daemon.ctl("logs", run, "hangs-once").stdout, "this time it answered\n")


if __name__ == "__main__":
    unittest.main()
