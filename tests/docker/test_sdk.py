"""One file of `@step` and `@pipeline`, unchanged, on this machine and in containers of a real Docker engine."""
import os
import re
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

from tests.lib.daemon import ROOT, Daemon
from tests.lib.engine import Engine, shared_engine

FLOW = """
from __future__ import annotations
import os, sys
from pathlib import Path
from orchd import fixed, pipeline, step
import helper

@step
def numbers(n: int) -> list[int]:
    return list(range(n))

@step
def times(x: int, by: dict) -> int:
    print("step", x)
    return x * by["factor"] * helper.ONE

@step
def where(values: list[int]) -> tuple[int, bool]:
    return sum(values), os.path.exists("/inside")

@step
def bad(of: tuple) -> None:
    raise ValueError(f"not {of[0]}")

@pipeline
def portable(n: int = 3, fail: bool = False):
    out = where(times.map(numbers(n), by={"factor": 2}))
    bad.options(when=fail == True)(out)
    return out

@pipeline
def mixed():
    return where(times.map([1, 2], by={"factor": 1})), where.options(name="inside", orchestrator="docker")([3])

if __name__ == "__main__":
    if "mixed" in sys.argv:
        print(mixed().result())
        sys.exit()
    run = portable.main()
    print(run.result(), run.logs("times").splitlines())
"""


def image_of_this_python(engine: Engine) -> None:
    """The image `orch-python`: Debian's python3 of this machine, and nothing else."""
    linked = subprocess.run(["ldd", "/usr/bin/python3"], capture_output=True, text=True, check=True).stdout
    files = re.findall(r"/\S+", linked)
    with tempfile.TemporaryFile() as out:
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name in (*files, "/usr/bin/python3"):
                archive.add(os.path.realpath(name), name, recursive=False)
            library = Path(os.path.realpath("/usr/bin/python3")).name
            archive.add(f"/usr/lib/{library}", f"/usr/lib/{library}",
                        filter=lambda info: None if "__pycache__" in info.name or "/test/" in info.name else info)
            for name in ("/tmp", "/inside", "/etc"):
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
                archive.addfile(folder)
        out.seek(0)
        subprocess.run(["curl", "-sf", "--unix-socket", str(engine.socket), "-X", "POST", "-H", "Content-Type: application/x-tar",
                        "--data-binary", "@-", "http://docker/v1.41/images/create?fromSrc=-&repo=orch-python&tag=latest"
                        "&changes=ENV%20PATH=/usr/bin:/bin"], stdin=out, check=True, stdout=subprocess.DEVNULL)


class Sdk(unittest.TestCase):
    def test_the_same_file_here_and_in_containers(self) -> None:
        engine = shared_engine()
        image_of_this_python(engine)
        with Daemon() as daemon:
            daemon.ctl("register-orchestrator", "docker", "--flavor", "local_docker", "--config", f"host={engine.address}",
                       "--config", "image=orch-python", "--config", "network=none", "--config", "pull=never")
            folder = daemon.home / "flow"
            folder.mkdir()
            (folder / "flow.py").write_text(FLOW)
            (folder / "helper.py").write_text("ONE = 1\n")

            def run(*args: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
                done = subprocess.run(["/usr/bin/python3", str(folder / "flow.py"), *args], text=True, capture_output=True, timeout=300,
                                      env=daemon.environment(PYTHONPATH=str(ROOT / "client/python/src")))
                self.assertEqual(done.returncode, code, done.stdout + done.stderr)
                return done

            self.assertEqual(run().stdout, "(6, False) ['step 0', 'step 1', 'step 2']\n")
            self.assertEqual(run("mixed").stdout, "((3, False), (3, True))\n", "one step of a run goes elsewhere")
            stack = {"name": "default", "orchestrator": "docker", "isDefault": True}
            self.assertEqual(daemon.http("/orch.v1.OrchestratorService/SetStack", {"stack": stack})[0], 200)  # all that changes
            self.assertEqual(run().stdout, "(6, True) ['step 0', 'step 1', 'step 2']\n")
            self.assertIn("ValueError: not 6", run("--fail", "yes", code=1).stderr)


if __name__ == "__main__":
    unittest.main()
