"""examples/hooks: what the hooks of steps and of the run write."""
import unittest

from tests.lib.daemon import ROOT, Daemon, wait_for


class Hooks(unittest.TestCase):
    def test_the_diary(self) -> None:
        with Daemon() as daemon:
            diary = daemon.home / "diary"
            run = daemon.ctl("submit", ROOT / "examples/hooks/pipeline.yaml", "-p", f"diary={diary}").stdout.split()[0]
            daemon.ctl("wait-run", run, code=1)
            wait_for("three lines", lambda: diary.exists() and len(diary.read_text().splitlines()) == 3)
            self.assertEqual(set(diary.read_text().splitlines()), {
                "measure measured 42", "judge failed with 1", f"run {run} FAILED: 1 step failed"})
            wait_for("the hook of judge", lambda: daemon.json("get-step", run, "judge")["hooks"][0]["state"] == "FAILED")


if __name__ == "__main__":
    unittest.main()
