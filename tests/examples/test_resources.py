"""examples/resources: never more at once than there is room for."""
import unittest

from tests.lib.daemon import ROOT, Daemon

EXAMPLE = ROOT / "examples/resources"


class Resources(unittest.TestCase):
    def test_the_lab(self) -> None:
        # covers: StepSpec.resources Resources.cpu Resources.memory Resources.custom
        with Daemon() as daemon:
            refused = daemon.ctl("submit", EXAMPLE / "pipeline.yaml", code=8).stderr
            self.assertIn("licence 1: local offers 0", refused)
            daemon.ctl("apply", "-f", EXAMPLE / "site.yaml", "--yes")
            run = daemon.ctl("submit", EXAMPLE / "pipeline.yaml", "--orchestrator", "lab", "-p", "seconds=0.1", "--wait").stdout.strip()
            spans = {name: tuple(map(float, daemon.ctl("logs", run, name).stdout.split())) for name in daemon.steps(run)}

            def together(*names: str) -> int:
                chosen = [span for name, span in spans.items() if name.split("[")[0] in names]
                return max(sum(begin <= at < end for begin, end in chosen) for at, _ in chosen)

            self.assertEqual(together("solve"), 1)   # one licence
            self.assertEqual(together("merge"), 1)   # all of the memory
            self.assertEqual(together("solve", "merge"), 1)
            self.assertGreater(together("prepare"), 1)  # shares of a CPU
            first = {name: min(begin for step, (begin, _) in spans.items() if step.startswith(name)) for name in ("solve", "merge")}
            self.assertLess(first["merge"], first["solve"])  # of higher priority


if __name__ == "__main__":
    unittest.main()
