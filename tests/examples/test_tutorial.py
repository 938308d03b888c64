"""docs/tutorial.md and examples/tutorial: each command of the walk-through, and all that it prints."""
import shutil
import unittest

from tests.lib import walkthrough
from tests.lib.daemon import BIN, ROOT, Daemon


class Tutorial(unittest.TestCase):
    def test_a_morning_s_work(self) -> None:
        with Daemon() as daemon:
            shutil.copytree(ROOT / "examples/tutorial", daemon.home / "examples/tutorial")
            # Debian's python3 starts faster than what may stand before it on PATH.
            environment = daemon.environment() | {"PATH": f"{BIN}:/usr/bin:/bin"}
            faults = walkthrough.walk(ROOT / "docs/tutorial.md", daemon.home, environment, {str(daemon.home): "/home/you"})
            self.assertEqual(faults, [], "\n".join(faults))

    def test_what_a_page_may_hide(self) -> None:
        self.assertTrue(walkthrough.alike("a in 3.2s\n…\nlast\n", "a in 170ms\nb\nc\nlast\n"))
        self.assertTrue(walkthrough.alike("x: 0123456789ab → ba9876543210\n", "x: ffffffffffff → 0123456789ab\n"))
        for page, printed in (("1 failed\n", "2 failed\n"), ("a\n…\n", "b\nc\n"), ("a\n", "a\nb\n"), ("", "a\n"),
                              ("FAILED in 3s\n", "SUCCEEDED in 3s\n"), ("clean[1]\n", "clean[2]\n")):
            with self.subTest(page):
                self.assertFalse(walkthrough.alike(page, printed))


if __name__ == "__main__":
    unittest.main()
