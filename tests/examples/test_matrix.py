"""examples/matrix: the product of two lists, and every way to read from it."""
import json
import math
import unittest

from tests.lib.daemon import ROOT, Daemon


class Matrix(unittest.TestCase):
    def test_integrals(self) -> None:
        # covers: StepSpec.foreach
        with Daemon() as daemon:
            run = daemon.ctl("submit", ROOT / "examples/matrix/pipeline.yaml", "--wait").stdout.strip()
            items = [step["item"] for step in daemon.steps(run).values() if step["template_name"] == "integrate"]
            self.assertEqual(items[:5], [{"rule": "left", "points": n} for n in (4, 16, 64, 256)] + [{"rule": "midpoint", "points": 4}])
            self.assertEqual(daemon.ctl("logs", run, "one").stdout, "simpson with 256 points: 2.000000000016\n")
            areas, errors = daemon.ctl("logs", run, "best").stdout.split("]", 1)
            areas = json.loads(areas + "]")
            self.assertEqual(len(areas), 12)
            left = sum(math.sin(i * math.pi / 4) for i in range(4)) * math.pi / 4
            self.assertAlmostEqual(areas[0], left, places=9)
            self.assertEqual(errors.strip(), f"the largest of 4 errors is {2 - left:.9f}")
            # Each by its item: the lists are in another order.
            self.assertEqual(daemon.steps(run)["error[3]"]["item"], {"points": 4, "rule": "left"})
            daemon.ctl("get-artifact", "matrix.error[3].off", "--output", daemon.home / "off")
            self.assertEqual((daemon.home / "off").read_text().strip(), f"{2 - left:.9f}")


if __name__ == "__main__":
    unittest.main()
