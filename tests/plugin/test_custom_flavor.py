"""docs/custom-flavor.md, followed to the letter in an empty folder."""
import re
import shutil
import tempfile
import unittest
from pathlib import Path

from tests.lib.daemon import ROOT, Daemon
from tests.lib.walkthrough import walk

PAGE = ROOT / "docs/custom-flavor.md"


class CustomFlavor(unittest.TestCase):
    def test_the_page_builds_the_sample(self) -> None:
        pieces = re.findall(r"^cat >>? mine\.cc <<'CODE'\n(.*?)^CODE$", PAGE.read_text(), re.M | re.S)
        self.assertEqual("".join(pieces), (ROOT / "backends/plugins/sample/sample.cc").read_text(),
                         "the code on the page is the sample, piece by piece")

    def test_followed_to_the_letter(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="orchd-custom-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        with Daemon() as daemon:
            faults = walk(PAGE, folder, daemon.environment(ORCHD=str(ROOT)), {str(folder): "/home/you/flavor"})
        self.assertEqual(faults, [])


if __name__ == "__main__":
    unittest.main()
