"""examples/digits by the real binaries: five models, one report, and nothing twice. What its programs compute is in
tests/python; that they survive kills, in tests/crash."""
import importlib.util
import json
import shutil
import unittest

from tests.lib.daemon import ROOT, Daemon


@unittest.skipUnless(importlib.util.find_spec("sklearn") and importlib.util.find_spec("matplotlib"), "python3-sklearn, python3-matplotlib are missing")
class Digits(unittest.TestCase):
    def test_what_the_readme_promises(self) -> None:
        with Daemon() as daemon:
            folder = daemon.home / "digits"
            shutil.copytree(ROOT / "examples/digits", folder)
            daemon.ctl("submit", folder / "pipeline.yaml", "--name", "first", "--wait", timeout=300)
            daemon.ctl("get-artifact", "digits-report", "--output", daemon.home / "report.html")
            self.assertIn("<html", (daemon.home / "report.html").read_text())
            daemon.ctl("get-artifact", "digits.select.winner", "--output", daemon.home / "winner.json")
            self.assertIn("model", json.loads((daemon.home / "winner.json").read_text()))
            daemon.ctl("submit", folder / "pipeline.yaml", "--name", "again", "--wait")
            self.assertEqual({step["state"] for step in daemon.steps("again").values()}, {"CACHED"})
            report = folder / "report.py"
            report.write_text(report.read_text() + "# changed\n")
            daemon.ctl("submit", folder / "pipeline.yaml", "--name", "changed", "--wait")
            self.assertEqual([name for name, step in daemon.steps("changed").items() if step["state"] != "CACHED"], ["report"])


if __name__ == "__main__":
    unittest.main()
