"""examples/rules: which steps run after none, one and both of two checks have failed."""
import unittest

from tests.lib.daemon import ROOT, Daemon

RAN = {
    (): {"publish", "keep-a-part", "close"},
    ("check-rows",): {"complain", "keep-a-part"},
    ("check-rows", "check-header"): {"complain", "give-up"},
}


class Rules(unittest.TestCase):
    def test_each_outcome(self) -> None:
        # covers: StepSpec.trigger_rule
        with Daemon() as daemon:
            folder = daemon.home / "scratch"
            for bad, ran in RAN.items():
                with self.subTest(bad):
                    more = ["-p", "rows=3"] * ("check-rows" in bad) + ["-p", "header=x"] * ("check-header" in bad)
                    run = daemon.ctl("submit", ROOT / "examples/rules/pipeline.yaml", "-p", f"folder={folder}", *more, "--wait",
                                     code=1 if bad else 0).stdout.strip()
                    states = {name: step["state"] for name, step in daemon.steps(run).items()}
                    self.assertEqual({name for name, state in states.items() if state == "FAILED"}, set(bad))
                    after = {"publish", "complain", "keep-a-part", "give-up", "close"}
                    self.assertEqual({name for name in after if states[name] == "SUCCEEDED"}, ran)
                    self.assertEqual({states[name] for name in after - ran}, {"SKIPPED"})
                    self.assertEqual(states["take-away"], "SUCCEEDED")
                    self.assertFalse(folder.exists())
            self.assertIn("its rule `all_success` was not met, it comes after `check-rows` (FAILED)", daemon.ctl("why", run, "publish").stdout)


if __name__ == "__main__":
    unittest.main()
