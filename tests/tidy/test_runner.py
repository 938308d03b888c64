"""How the runner counts, and where it keeps what comes from PyPI."""
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

from tests.lib import suites
from tests.lib.daemon import alive, wait_for

# Makes a virtual environment whose pip writes down what it is asked for, and has no package `away`.
PYTHON = """#!/bin/bash
if [ "$1" = -V ]; then echo "Python $VERSION"; exit; fi
mkdir -p "$3/bin"
cat >"$3/bin/pip" <<'END'
#!/bin/bash
echo "$*" >>"$(dirname "$0")/asked"
[[ "$*" != *away* ]]
END
chmod +x "$3/bin/pip"
"""


class Counting(unittest.TestCase):
    def test_a_part_that_was_left_out_is_skipped(self):
        text = "Ran 3 tests in 0.1s\n\nOK (skipped=1)\nSKIPPED: Python 3.9 is not here\nSKIPPED: no notebook\n"
        found = suites.read_unittest(text)
        self.assertEqual((found.passed, found.failed, found.skipped), (2, 0, 3))
        self.assertEqual(found.reasons, ["Python 3.9 is not here", "no notebook"])
        found = suites.read_unittest("SKIPPED: PyPI is not in reach\n")
        self.assertEqual((found.passed, found.failed, found.skipped), (0, 0, 1))
        self.assertEqual(suites.read_unittest("").failed, 1)


TESTS = """
import os, threading, unittest

class Dealt(unittest.TestCase):
    shares = 2
    def test_a(self): open("a.pid", "w").write(str(os.getpid()))
    def test_b(self): open("b.pid", "w").write(str(os.getpid()))

class Wrong(unittest.TestCase):
    slow = 9
    def test_is(self): self.fail("as it should")

class Away(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise unittest.SkipTest("no platform")
    def test_is(self): pass
"""


class SideBySide(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="orchd-side-by-side-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def command(self):
        return [sys.executable, str(suites.ROOT / "tests/lib/side_by_side.py"), "--top", str(self.folder), str(self.folder)]

    def run_it(self, text):
        (self.folder / "test_it.py").write_text(text)
        done = subprocess.run(self.command(), cwd=self.folder, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr, done.returncode

    def test_each_class_has_a_process_or_several_and_all_are_counted(self):
        text, code = self.run_it(TESTS)
        self.assertEqual(code, 1)
        found = suites.read_unittest(text)
        self.assertEqual((found.passed, found.failed, found.skipped, found.reasons), (2, 1, 1, ["no platform"]), text)
        self.assertNotEqual((self.folder / "a.pid").read_text(), (self.folder / "b.pid").read_text())
        self.assertIn("as it should", text)
        self.assertEqual(self.run_it(TESTS.replace('self.fail("as it should")', "pass"))[1], 0)

    def test_of_those_that_want_to_be_alone_one_runs_at_a_time(self):
        one = """
class %s(unittest.TestCase):
    alone = "heavy"
    def test_is(self):
        os.mkdir("busy")  # fails if it is there
        threading.Event().wait(0.2)
        os.rmdir("busy")
"""
        text, code = self.run_it("import os, threading, unittest\n" + "".join(one % name for name in "ABC"))
        self.assertEqual(code, 0, text)
        self.assertEqual(suites.read_unittest(text).passed, 3)

    def test_what_cannot_be_loaded_fails_and_says_why(self):
        text, code = self.run_it("import no_such_module")
        self.assertEqual(code, 1)
        self.assertIn("No module named 'no_such_module'", text)
        self.assertEqual(suites.read_unittest(text).failed, 1, text)

    def test_one_that_hangs_says_where(self):
        (self.folder / "test_it.py").write_text(
            "import threading, unittest\nclass Hangs(unittest.TestCase):\n    def test_for_ever(self): threading.Event().wait()\n")
        text, code = suites.run_to_its_end(self.command(), dict(os.environ), 3)
        self.assertIsNone(code)
        self.assertIn("in test_for_ever", text)


# Prints the pid of a child, in a session of its own where it is told so, and waits for ever.
HANGS = """
import subprocess, sys, threading
print(subprocess.Popen(["sleep", "1000"], start_new_session=bool(int(sys.argv[1]))).pid, flush=True)
threading.Event().wait()
"""


class Limits(unittest.TestCase):
    def run_it(self, command, seconds):
        return suites.run_to_its_end(command, dict(os.environ), seconds)

    def test_one_that_ends_gives_its_code_and_its_words(self):
        self.assertEqual(self.run_it(["sh", "-c", "echo here; exit 3"], 60), ("here\n", 3))

    def test_one_that_hangs_says_where_and_ends_with_all_it_started(self):
        text, code = self.run_it([sys.executable, "-c", HANGS, "0"], 1)
        self.assertIsNone(code)
        self.assertIn("in wait", text)  # the stack of its thread
        wait_for("what it started to be gone", lambda: not alive(int(text.split()[0])))

    def test_what_is_left_behind_is_ended_and_not_waited_for(self):
        text, code = self.run_it(["sh", "-c", "sleep 1000 & echo $!; exit 4"], 600)
        self.assertEqual(code, 4)
        wait_for("what it left to be gone", lambda: not alive(int(text)))

    def test_what_went_its_own_way_does_not_hold_the_run(self):
        began = time.monotonic()
        text, code = self.run_it([sys.executable, "-c", HANGS, "1"], 1)
        os.kill(int(text.split()[0]), 9)
        self.assertIsNone(code)
        self.assertLess(time.monotonic() - began, 60)


class Environments(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="orchd-environments-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.python = self.folder / "python"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)
        (self.folder / "date").write_text('#!/bin/bash\necho "$MONTH"\n')
        (self.folder / "date").chmod(0o755)

    def environment(self, *words, version="3.1", month="2030-01"):
        found = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", 'source "$0"; environment one "$@"', suites.ROOT / "tests/lib/environment.sh", self.python, *words],
            env={"PATH": f"{self.folder}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(self.folder), "VERSION": version, "MONTH": month},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return found.stdout.strip()

    def test_it_is_made_once_for_what_is_asked(self):
        first = self.environment("a", "b")
        self.assertEqual(self.environment("a", "b"), first)
        # uv is asked for first; where it does not come pip does it.
        self.assertEqual(pathlib.Path(first, "bin/asked").read_text(), "install -q uv\ninstall -q a b\n")
        others = [self.environment("a"), self.environment("a", "b", version="3.2"), self.environment("a", "b", month="2030-02")]
        self.assertEqual(len({first, *others}), 4)

    def test_what_may_be_missing(self):
        self.assertTrue(self.environment("a", "--", "away"))
        self.assertEqual(self.environment("a", "away"), "")

    def test_where_no_new_one_can_be_had_the_last_one_will_do(self):
        first = self.environment("a")
        self.python.write_text(PYTHON.replace("*away*", "*"))
        self.assertEqual(self.environment("a", month="2030-02"), first)


if __name__ == "__main__":
    unittest.main()
