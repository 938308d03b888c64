"""examples/fanout: as many steps as the first one finds parts."""
import unittest

from tests.lib.daemon import ROOT, Daemon

PIPELINE = ROOT / "examples/fanout/pipeline.yaml"


class Fanout(unittest.TestCase):
    def test_parts(self) -> None:
        # covers: StepSpec.foreach ForeachKey.from
        with Daemon() as daemon:
            for text, letters in (("one two three four", [11, 4]), ("", [])):
                run = daemon.ctl("submit", PIPELINE, "-p", f"text={text}", "-p", "words=3").stdout.split()[0]
                daemon.ctl("wait-run", run)
                powers = [n ** by for n in letters for by in (2, 3)]
                self.assertEqual(daemon.ctl("logs", run, "total").stdout,
                                 f"letters {letters} powers {powers}\n".replace(", ", ","))
                steps = daemon.steps(run)
                self.assertEqual(steps["count"]["state"], "SUCCEEDED")
                self.assertEqual([f"count[{n}]" in steps for n in range(3)], [n < len(letters) for n in range(3)])


if __name__ == "__main__":
    unittest.main()
