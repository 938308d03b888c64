"""examples/cpp: the C++ client submits and waits."""
import subprocess
import unittest

from tests.lib.daemon import BIN, Daemon


class Cpp(unittest.TestCase):
    def test_submit_and_wait(self) -> None:  # examples/cpp is built as example_cpp
        with Daemon() as daemon:
            done = subprocess.run([BIN / "example_cpp"], env=daemon.environment(), text=True, capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            run = daemon.json("list-runs")["runs"][0]
            self.assertEqual(run["state"], "SUCCEEDED")
            self.assertIn(run["name"], done.stdout)


if __name__ == "__main__":
    unittest.main()
