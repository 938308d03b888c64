"""One file of `@step` and `@pipeline` that runs unchanged on this machine and elsewhere, where there is a folder /inside."""
from __future__ import annotations

import subprocess
import unittest

from tests.lib.daemon import ROOT, Daemon

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
    return where(times.map([1, 2], by={"factor": 1})), where.options(name="inside", orchestrator="there")([3])

if __name__ == "__main__":
    if "mixed" in sys.argv:
        print(mixed().result())
        sys.exit()
    run = portable.main()
    print(run.result(), run.logs("times").splitlines())
"""


def check_portable(test: unittest.TestCase, daemon: Daemon) -> None:
    """The daemon has an orchestrator of the name `there`, whose steps have Debian's python3."""
    folder = daemon.home / "flow"
    folder.mkdir()
    (folder / "flow.py").write_text(FLOW)
    (folder / "helper.py").write_text("ONE = 1\n")

    def run(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(["/usr/bin/python3", str(folder / "flow.py"), *args], text=True, capture_output=True, timeout=300,
                              env=daemon.environment(PYTHONPATH=str(ROOT / "client/python/src")))
        test.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    test.assertEqual(run().stdout, "(6, False) ['step 0', 'step 1', 'step 2']\n")
    test.assertEqual(run("mixed").stdout, "((3, False), (3, True))\n", "one step of a run goes elsewhere")
    stack = {"name": "default", "orchestrator": "there", "isDefault": True}
    test.assertEqual(daemon.http("/orch.v1.OrchestratorService/SetStack", {"stack": stack})[0], 200)  # all that changes
    test.assertEqual(run().stdout, "(6, True) ['step 0', 'step 1', 'step 2']\n")
    test.assertIn("ValueError: not 6", run("--fail", "yes", code=1).stderr)
