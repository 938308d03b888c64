"""README's lines of Python on Debian's own Python, into which pip installs nothing."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest

from real import BINARY, RealCase

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MANAGED = pathlib.Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists()


@unittest.skipUnless(MANAGED and sys.prefix == sys.base_prefix, "this is no Python that Debian manages")
class Debian(RealCase):
    def test_the_readme_s_lines_in_an_empty_folder(self):
        block = next(block for block in re.findall(r"^```bash\n(.*?)^```", README, re.M | re.S) if "pip install" in block)
        first, *lines = block.splitlines()
        self.assertTrue(first.startswith("deploy/install-packages python "), "the packages are there already")
        with tempfile.TemporaryDirectory(prefix="orchd-debian-") as place:
            home, checkout, empty = (pathlib.Path(place, name) for name in ("home", "checkout", "empty"))
            home.mkdir(), empty.mkdir()
            self.copy(checkout)
            plain = {"HOME": str(home), "LANG": "C.UTF-8", "PATH": f"{BINARY.parent}:/usr/bin:/bin", "ORCH_DATA_DIR": self.daemon.data_dir}
            offline = {**plain, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}  # nothing of PyPI is needed
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], cwd=checkout, env=offline, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            python = home / "orchd-python/bin/python"
            said = []
            for block in re.findall(r"^```python\n(.*?)^```", README, re.M | re.S):
                (empty / "hello.py").write_text(block)
                done = subprocess.run([python, "hello.py"], cwd=empty, env=plain, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertIn("SUCCEEDED", done.stdout)
                said.append(done.stdout)
            self.assertIn("SUCCEEDED Hello, Neptune!\n", said)
            # It is that package that ran, and what it needs beside the library came with it.
            where = "import orchd, grpc; print(orchd.__file__); print(grpc.__file__)"
            ours, grpc = subprocess.run([python, "-c", where], cwd=empty, env=plain, capture_output=True, text=True, check=True).stdout.split()
            self.assertTrue(ours.startswith(str(home)) and grpc.startswith("/usr/lib/python3/dist-packages/"), (ours, grpc))

    def test_a_source_archive_needs_neither_the_checkout_nor_protoc(self):
        with tempfile.TemporaryDirectory(prefix="orchd-sdist-") as place:
            checkout, apart, into = (pathlib.Path(place, name) for name in ("checkout", "apart", "into"))
            self.copy(checkout)
            apart.mkdir()
            env = {"HOME": place, "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1"}

            def do(cwd, *words, **more):
                done = subprocess.run(words, cwd=cwd, env={**env, **more}, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                return done.stdout

            do(checkout / "client/python", "/usr/bin/python3", "setup.py", "-q", "sdist", "-d", str(apart))
            shutil.rmtree(checkout)
            archive, = apart.iterdir()
            no_protoc = {"PATH": str(apart)}  # nothing is there
            do(apart, "/usr/bin/python3", "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--target", str(into), str(archive), **no_protoc)
            said = do(apart, "/usr/bin/python3", "-c", "import orchd, orchd.run_step; print(orchd.Client, orchd.__file__)", PYTHONPATH=str(into))
            self.assertIn(str(into), said)
            self.assertTrue((into / "orchd/py.typed").exists())

    @staticmethod
    def copy(checkout):
        """What is built leaves files behind."""
        left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".mypy_cache", ".ruff_cache")
        for part in ("client/python", "proto"):
            shutil.copytree(ROOT / part, checkout / part, ignore=left_out)

    def test_pip_refuses_the_system_s_python(self):
        """So that the README's way is no detour."""
        env = {**os.environ, "PIP_NO_INDEX": "1"}
        env.pop("PIP_BREAK_SYSTEM_PACKAGES", None)
        done = subprocess.run(["/usr/bin/python3", "-m", "pip", "install", "--no-build-isolation", "--dry-run", str(ROOT / "client/python")],
                              env=env, capture_output=True, text=True, cwd="/")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("externally-managed-environment", done.stderr)


if __name__ == "__main__":
    unittest.main()
