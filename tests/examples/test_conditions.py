"""examples/conditions: which steps run depends on a value."""
import unittest

from tests.lib.daemon import ROOT, Daemon

PIPELINE = ROOT / "examples/conditions/pipeline.yaml"


class Conditions(unittest.TestCase):
    def test_branches(self) -> None:
        # covers: StepSpec.when
        with Daemon() as daemon:
            for rows, ran in ((250, {"train", "publish"}), (7, {"too-little"})):
                run = daemon.ctl("submit", PIPELINE, "-p", f"rows={rows}").stdout.split()[0]
                daemon.ctl("wait-run", run)
                steps = daemon.steps(run)
                self.assertEqual({name for name, step in steps.items() if step["state"] == "SUCCEEDED"},
                                 ran | {"ingest", "report", "clean-up"})
                self.assertEqual(steps["alarm"]["reason"], "TRIGGER_RULE")
                if rows == 7:
                    self.assertEqual(steps["train"]["reason"], "WHEN_FALSE")
                    self.assertEqual(steps["train"]["message"], "`.ingest.rows > 100` is false")
                    self.assertIn("`train` is SKIPPED (WHEN_FALSE)", steps["publish"]["message"])


if __name__ == "__main__":
    unittest.main()
