"""The sources are as clang-format makes them."""
import shutil
import subprocess
import unittest

from tests.lib import tree
from tests.lib.tree import ROOT


class Format(unittest.TestCase):
    @unittest.skipUnless(shutil.which("clang-format"), "clang-format is not on this machine")
    def test_nothing_would_change(self) -> None:
        names = tree.under("server", "backends", "client", "tests", "examples", ext=(".h", ".cc"))
        done = subprocess.run(["clang-format", "--dry-run", "--ferror-limit=1", *names], cwd=ROOT, capture_output=True, text=True)
        wrong = sorted({line.split(":")[0] for line in done.stderr.splitlines() if "[-Wclang-format-violations]" in line})
        self.assertEqual(wrong, [], "\nnow: clang-format -i " + " ".join(wrong))


if __name__ == "__main__":
    unittest.main()
