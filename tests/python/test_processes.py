"""What the package starts has nothing of the process that starts it, and no fork of that is made."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from orchd import _processes, _spawned

# A program that asks to be told of forks, as gRPC does, and starts others while its threads run. It prints what it was told.
_STARTS_MANY = """
import ctypes, os, sys, tempfile, threading
import grpc
from orchd import _processes

told = []
calls = [ctypes.CFUNCTYPE(None)(lambda word=word: told.append(word)) for word in ("before", "after", "in child")]
ctypes.CDLL(None).__getattr__("__register_atfork")(*calls, None)
os.register_at_fork(before=lambda: told.append("python"))
channel = grpc.insecure_channel("unix:/nowhere")
channel.subscribe(lambda state: None, try_to_connect=True)
for _ in range(int(sys.argv[1])):
    with tempfile.TemporaryFile() as said:
        started = _processes.start([sys.executable, "-IS", "-c", "print(6 * 7)"], output=said)
        code = started.wait()
        said.seek(0)
        if (code, said.read()) != (0, b"42\\n"):
            told.append(code)
print("told:", told)
"""


class Processes(unittest.TestCase):
    def said(self, words, **more):
        with tempfile.TemporaryFile() as output:
            code = _processes.start(words, output=output, **more).wait(60)
            output.seek(0)
            return code, output.read().decode()

    def python(self, program, *words, **more):
        return self.said([sys.executable, "-IS", "-c", program, *words], **more)

    @unittest.skipUnless(sys.platform == "linux", "of what is open /proc tells")
    def test_nothing_that_is_open_here_is_open_there(self):
        with tempfile.TemporaryFile() as kept:
            os.set_inheritable(kept.fileno(), True)
            program = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)))"
            self.assertEqual(self.python(program), (0, "[0, 1, 2]\n"))

    def test_session_folder_and_environment_are_its_own(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = os.path.realpath(folder)
            program = "import os; print(os.getsid(0) == os.getpid(), os.getcwd(), sorted(set(os.environ) - {'LC_CTYPE'}))"
            code, told = self.python(program, folder=folder, environment={"COLOUR": "green"})
            self.assertEqual((code, told), (0, f"True {folder} ['COLOUR']\n"))

    @unittest.skipUnless(os.path.exists("/bin/sh"), "no /bin/sh")
    def test_a_pipe_that_breaks_ends_it(self):
        """Python, which it goes through, ignores the signal for itself."""
        code, _ = self.said(["/bin/sh", "-c", "kill -PIPE $$"])
        self.assertEqual(code, -13)

    def test_what_it_reads(self):
        with tempfile.TemporaryFile() as given:
            given.write(b"given")
            given.seek(0)
            self.assertEqual(self.python("import sys; print(sys.stdin.read())", stdin=given), (0, "given\n"))

    def test_a_program_that_is_none(self):
        code, told = self.said(["/nowhere/orchd"])
        self.assertEqual((code, told), (_spawned.NOT_STARTED, "orchd: cannot start /nowhere/orchd in /: No such file or directory\n"))

    @unittest.skipUnless(sys.platform == "linux", "the C library's own function is asked")
    def test_no_fork_is_made(self):
        source = pathlib.Path(_processes.__file__).parents[1]
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", _STARTS_MANY, "20"], env={**os.environ, "PYTHONPATH": str(source)},
                              capture_output=True, text=True, timeout=300)  # fmt: skip
        self.assertEqual((done.returncode, done.stdout), (0, "told: []\n"), done.stderr)


if __name__ == "__main__":
    unittest.main()
