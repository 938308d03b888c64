"""examples/python: the file runs itself, and what its first lines promise."""
import importlib.util
import shutil
import subprocess
import sys
import unittest

from tests.lib.daemon import ROOT, Daemon


@unittest.skipIf(any(importlib.util.find_spec(name) is None for name in ("grpc", "sklearn")), "python3-grpcio or python3-sklearn is missing")
class Python(unittest.TestCase):
    def test_what_the_file_says(self) -> None:
        with Daemon() as daemon:
            folder = daemon.home / "python"
            shutil.copytree(ROOT / "examples/python", folder, ignore=shutil.ignore_patterns("__pycache__"))

            def run(*args: str) -> str:
                done = subprocess.run([sys.executable, str(folder / "flowers.py"), *args], cwd="/", text=True, capture_output=True, timeout=300,
                                      env=daemon.environment(PYTHONPATH=str(ROOT / "client/python/src")))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                return done.stdout

            first = run()
            self.assertRegex(first, r"(?s)^neighbours +0\.9\d+\n.* is kept; on flowers it never saw: 0\.9\d+\n$")
            run("--folds", "10")
            name = daemon.json("list-runs")["runs"][0]["name"]
            states = {name: step["state"] for name, step in daemon.steps(name).items()}
            self.assertEqual((states["load"], states["score[0]"]), ("CACHED", "SUCCEEDED"))
            self.assertEqual(states["complain"], "SKIPPED")
            self.assertGreater(daemon.json("get-artifact", "flowers-model")["size"], 100)
            self.assertRegex(run("--good", "1.01"), r"^only 0\.9\d+: nothing to show\n$")


if __name__ == "__main__":
    unittest.main()
