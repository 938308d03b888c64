"""One file, one daemon, two versions of Python: each runs its own steps, and each reads what the other made."""
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import unittest

from real import RealCase

import orchd

OTHER = "/usr/bin/python3"
FLOW = textwrap.dedent("""
    import dataclasses, sys
    from typing import Any
    from orchd import get_run, pipeline, step

    @dataclasses.dataclass
    class Point:
        x: int

    @step
    def made(n: int) -> list[int]:
        return list(range(n))

    @step(cache=False)
    def told(n: int) -> dict:
        return {"python": list(sys.version_info[:2]), "n": n}

    @step
    def kept(of: list[dict]) -> tuple[Point, Any]:
        return Point(len(of)), {"a": {1, 2}, "big": 10**30}

    both = kept.options(name="kept")

    @pipeline
    def flow():
        return both(told.map(made(4)))

    if __name__ == "__main__":
        if sys.argv[1] == "run":
            run = flow.options(run_name=sys.argv[2], progress=False)()
        run = get_run(sys.argv[2])
        point, more = run.steps["kept"].output.load()
        print(sorted({tuple(one["python"]) for one in run.steps["told"].output.load()}), point, more["a"], more["big"] == 10**30)
    """)


def version_of(python):
    try:
        code = "import sys, grpc; print(tuple(sys.version_info[:2]))"
        return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def version_of_key(python):
    return tuple(int(part) for part in version_of(python).strip("()").split(","))


@unittest.skipIf(version_of(OTHER) in ("", str(tuple(sys.version_info[:2]))), "there is no second Python with gRPC here")
class TwoVersions(RealCase):
    def test_each_runs_its_own_and_reads_the_other_s(self):
        with tempfile.TemporaryDirectory(prefix="orchd-versions-") as folder:
            file = pathlib.Path(folder, "flow.py")
            file.write_text(FLOW)

            def ask(python, *words):
                env = {**os.environ, "PYTHONPATH": str(pathlib.Path(orchd.__file__).parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}
                done = subprocess.run([python, str(file), *words], env=env, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                return done.stdout

            for number in range(2):  # the second time there are warm workers of both
                for python in (sys.executable, OTHER):
                    name = f"of-{'this' if python == sys.executable else 'other'}-{number}"
                    wanted = f"[{version_of(python)}] Point(x=4) {{1, 2}} True\n"
                    self.assertEqual(ask(python, "run", name), wanted)
                    reader = OTHER if python == sys.executable else sys.executable
                    self.assertEqual(ask(reader, "read", name), wanted)

    def test_what_the_other_cannot_read_names_both(self):
        newer, older = sorted([sys.executable, OTHER], key=version_of_key, reverse=True)
        names = ["PythonFinalizationError", "ExceptionGroup", "EncodingWarning"]  # by the version that they came with
        find = "import builtins, sys; print([n for n in sys.argv[1:] if hasattr(builtins, n)])"
        has = [subprocess.run([one, "-c", find, *names], capture_output=True, text=True, check=True).stdout for one in (newer, older)]
        new = next((name for name in names if name in has[0] and name not in has[1]), None)
        if new is None:
            self.skipTest("these two versions have the same exceptions")
        save = "import pathlib, sys; from orchd import serializers as s; s.save(s.Kind('pickle'), {CLASS}, pathlib.Path(sys.argv[1]), 'it')"
        load = ("import pathlib, sys; from orchd import errors, serializers as s\n"
                "try: s._load_pickle(pathlib.Path(sys.argv[1]))\n"
                "except errors.Refused as fault: print(fault.reason, fault)")  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="orchd-versions-") as folder:
            env = {**os.environ, "PYTHONPATH": str(pathlib.Path(orchd.__file__).parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}
            path = os.path.join(folder, "it")
            subprocess.run([newer, "-c", save.replace("CLASS", new), path], env=env, check=True)
            told = subprocess.run([older, "-c", load, path], env=env, capture_output=True, text=True, check=True).stdout
        words = [".".join(map(str, version_of_key(one))) for one in (newer, older)]
        self.assertIn("PYTHON_DIFFERS", told)
        self.assertIn(f"pickled by Python {words[0]} cannot be read by Python {words[1]}", told)


if __name__ == "__main__":
    unittest.main()
