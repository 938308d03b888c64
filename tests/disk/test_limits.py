"""Disks that fill up and clear, and limits of the machine that are met."""
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Iterator

from tests.disk.faults import FaultyDaemon, can_mount, fill, gated, small_file_system, wait_marks
from tests.lib.daemon import BIN, Daemon, files_below, wait_for

TRUE = "name: p\nsteps:\n  - {name: a, command: ['true']}\n"
NO_MOUNT = can_mount()
ROOT = os.geteuid() == 0
MEMORY = Path("/sys/fs/cgroup/memory")


def whole(daemon: Daemon) -> None:
    """The data directory, once the daemon has stopped, has no fault."""
    daemon.stop()
    done = subprocess.run([*daemon.command(), "--check-data"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class FullDisk(unittest.TestCase):
    def fills_and_clears(self, kind: str) -> None:
        try:
            with small_file_system(kind, 260) as place, Daemon(data_dir=str(place / "data")) as daemon:
                gate, marks = daemon.home / "gate", daemon.home / "marks"
                run = daemon.submit("name: long\nsteps:\n  - name: a\n    command: [sh, -c, "
                                    f"'echo x >> {marks}; while [ ! -e {gate} ]; do sleep 0.02; done']\n"
                                    "  - {name: b, command: ['true'], after: [a]}\n")
                wait_marks(marks)
                path = daemon.file(TRUE)
                filler = fill(place)
                refused = wait_for("a refusal", lambda: (lambda d: d if d.returncode else None)(
                    daemon.ctl("submit", path, "--timeout", "2s", code=None)))
                self.assertEqual(refused.returncode, 8, refused.stderr)
                self.assertIn("almost full", refused.stderr)
                code, body = daemon.http("/orch.v1.RunService/SubmitRun", {"pipeline": {"name": "p", "steps": [
                    {"name": "a", "command": ["true"]}]}})
                self.assertEqual((code, b"DISK_FULL" in body, b"resource_exhausted" in body), (429, True, True), body)
                # What is accepted goes on, and is kept.
                gate.touch()
                daemon.ctl("wait-run", run)
                self.assertEqual(daemon.steps(run)["b"]["state"], "SUCCEEDED")
                # Nothing happens meanwhile: the daemon looks for room when it is asked.
                filler.unlink()
                wait_for("room again", lambda: daemon.ctl("submit", path, "--timeout", "5s", code=None).returncode == 0, 10)
                self.assertEqual((place / "data/reserve").stat().st_size, 64 << 20)
                daemon.restart(signal.SIGKILL)
                self.assertEqual(daemon.steps(run)["b"]["state"], "SUCCEEDED")
                whole(daemon)
        except OSError as error:
            self.skipTest(f"no {kind} here: {error}")

    @unittest.skipIf(NO_MOUNT, NO_MOUNT)
    def test_tmpfs(self) -> None:
        self.fills_and_clears("tmpfs")

    @unittest.skipIf(NO_MOUNT, NO_MOUNT)
    def test_ext4(self) -> None:
        self.fills_and_clears("ext4")

    @unittest.skipIf(NO_MOUNT, NO_MOUNT)
    def test_an_output_that_finds_no_room(self) -> None:
        with small_file_system("tmpfs", 260) as place, Daemon(data_dir=str(place / "data")) as daemon:
            step = ("name: p\nsteps:\n  - name: a\n    command: [sh, -c, 'head -c 300000 /dev/urandom > ${outputs.o}; "
                    "if [ -n \"BIG\" ]; then while [ ! -e GATE ]; do sleep 0.02; done; fi']\n    outputs: {o: {}}\n")
            gate = daemon.home / "gate"
            gate.touch()
            text = step.replace("GATE", str(gate))
            daemon.run(text)
            gate.unlink()
            run = daemon.submit(text)
            wait_for("its output", lambda: [p for p in files_below(daemon.data / "local/slots", "output/o")
                                            if p.stat().st_size == 300000])
            # The name in the store needs no space; its folder may.
            fill(place)
            gate.touch()
            code = daemon.ctl("wait-run", run, code=None).returncode
            end = daemon.steps(run)["a"]
            self.assertIn((code, end["state"], end["reason"]),
                          ((0, "SUCCEEDED", "REASON_UNSPECIFIED"), (1, "FAILED", "STORE_FAILED")), end)
            if code == 1:
                self.assertIn("No space left on device", end["message"])


class Limits(unittest.TestCase):
    @unittest.skipUnless(ROOT and shutil.which("prlimit"), "raising a limit again needs root and prlimit")
    def test_no_descriptors_left(self) -> None:
        with Daemon() as daemon:
            assert daemon.process is not None
            pid = daemon.process.pid
            gate, marks = daemon.home / "gate", daemon.home / "marks"
            run = daemon.submit("name: long\nsteps:\n" + gated("a", gate, marks))
            wait_marks(marks)
            path = daemon.file(TRUE)
            used = len(os.listdir(f"/proc/{pid}/fd"))
            plenty = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
            for more in (0, 1, 3, 6):
                limit = used + more
                subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={limit}:"], check=True)
                for _ in range(3):  # refused or run, but answered or cut off, and nothing worse
                    daemon.ctl("submit", path, "--timeout", "1s", code=None)
            self.assertIsNone(daemon.process.poll(), daemon.log()[-2000:])
            subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={plenty}:"], check=True)
            wait_for("service again", lambda: daemon.ctl("submit", path, "--timeout", "5s", code=None).returncode == 0, 30)
            gate.touch()
            daemon.ctl("wait-run", run)
            self.assertEqual(marks.read_text(), "x\n")
            for each in daemon.json("list-runs", "--all")["runs"]:
                daemon.ctl("wait-run", each["name"], code=None)
                step = daemon.steps(each["name"])["a"]
                self.assertTrue(step["state"] == "SUCCEEDED" or step["message"], step)
            whole(daemon)

    @unittest.skipUnless(ROOT and shutil.which("setpriv") and shutil.which("prlimit"), "another user's limits need root and setpriv")
    def test_no_processes_left(self) -> None:
        daemon = Daemon()
        user = ["setpriv", "--reuid=64321", "--regid=64321", "--clear-groups"]
        plain = Daemon.command
        try:
            daemon.home.chmod(0o711)
            daemon.data.mkdir()
            os.chown(daemon.data, 64321, 64321)
            if subprocess.run([*user, "test", "-x", str(BIN / "orchd")], capture_output=True).returncode != 0:
                self.skipTest("another user cannot reach the binaries")
            # Too few to start at all: it says so.
            with contextlib.closing(Daemon()) as other:
                other.home.chmod(0o711)
                other.data.mkdir()
                os.chown(other.data, 64321, 64321)
                for few in (1, 6):
                    done = subprocess.run([*user, "prlimit", f"--nproc={few}", *plain(other)], capture_output=True, text=True,
                                          timeout=30)
                    self.assertEqual(done.returncode, 70, done.stderr)
                    self.assertRegex(done.stderr, "orchd: ended by .*limits on processes and threads")
            daemon.command = lambda: [*user, *plain(daemon)]  # type: ignore[method-assign]
            daemon.start()
            assert daemon.process is not None
            first = daemon.submit(TRUE)
            daemon.ctl("wait-run", first)
            supervisor = daemon.supervisor_pid()
            for pid in (daemon.process.pid, supervisor):
                subprocess.run([*user, "prlimit", "--pid", str(pid), "--nproc=1:"], check=True)
            path = daemon.file(TRUE)
            steps = daemon.run(path.read_text(), code=1)
            self.assertEqual(steps["a"]["state"], "FAILED")
            self.assertIn("temporarily unavailable", steps["a"]["message"])
            # Many calls at once want threads.
            many = [subprocess.Popen([str(BIN / "orchctl"), "submit", str(path), "--timeout", "5s"], env=daemon.environment(),
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(24)]
            for one in many:
                one.wait(60)
            self.assertIsNone(daemon.process.poll(), daemon.log()[-2000:])
            for pid in (daemon.process.pid, supervisor):
                subprocess.run([*user, "prlimit", "--pid", str(pid), "--nproc=4096:"], check=True)
            self.assertEqual(daemon.run(TRUE)["a"]["state"], "SUCCEEDED")
            whole(daemon)
        finally:
            daemon.close()


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    group = Path(tempfile.mkdtemp(prefix="orchd-test-", dir=MEMORY))
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (MEMORY / "cgroup.procs").write_text(pid)
        group.rmdir()


def has_memory_groups() -> bool:
    return ROOT and (MEMORY / "memory.limit_in_bytes").exists() and os.access(MEMORY, os.W_OK)


@unittest.skipUnless(has_memory_groups(), "no writable memory controller of version 1 here")
class Memory(unittest.TestCase):
    """The kernel kills what is over its limit. On a machine without cgroup2's memory controller a step's end tells only
    the signal, and how much it had taken."""

    EAT = "x = []\nwhile True:\n    x.append(b\"x\" * (1 << 20))"

    def test_a_step(self) -> None:
        with memory_group(64 << 20) as group, Daemon() as daemon:
            script = daemon.home / "eat.py"
            script.write_text(f"import os\nopen(\"{group}/cgroup.procs\", \"w\").write(str(os.getpid()))\n{self.EAT}\n")
            run = daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: [python3, {script}]}}\n"
                                "  - {name: b, command: ['true']}\n")
            daemon.ctl("wait-run", run, code=1)
            step = daemon.json("get-step", run, "a")
            self.assertEqual((step["reason"], step["signal"]), ("SIGNALED", 9), step)
            peak = int(step["attempts"][0]["peak_memory"])
            self.assertGreater(peak, 40 << 20)
            self.assertLess(peak, 80 << 20)
            self.assertEqual(daemon.steps(run)["b"]["state"], "SUCCEEDED")

    def test_the_daemon(self) -> None:
        with memory_group(1 << 30) as group, contextlib.closing(Daemon()) as daemon:
            plain = daemon.command()
            daemon.command = lambda: ["sh", "-c", f"echo $$ > {group}/cgroup.procs; exec \"$@\"", "sh", *plain]  # type: ignore[method-assign]
            daemon.start()
            (MEMORY / "cgroup.procs").write_text(str(daemon.supervisor_pid()))
            gate, marks = daemon.home / "gate", daemon.home / "marks"
            run = daemon.submit("name: long\nsteps:\n" + gated("a", gate, marks))
            wait_marks(marks)
            done = daemon.submit(TRUE)
            daemon.ctl("wait-run", done)
            # Little more than it has now, then a large request.
            taken = int((group / "memory.usage_in_bytes").read_text())
            (group / "memory.limit_in_bytes").write_text(str(taken + (2 << 20)))
            text = "name: big\nsteps:\n" + "".join(f"  - {{name: s{i}, command: ['true', {'x' * 200}]}}\n" for i in range(60_000))
            daemon.ctl("submit", daemon.file(text, "big.yaml"), code=None)
            assert daemon.process is not None
            self.assertEqual(daemon.process.wait(60), -signal.SIGKILL)
            daemon.command = lambda: plain  # type: ignore[method-assign]
            daemon.start()
            self.assertEqual(daemon.state(done), "SUCCEEDED")
            gate.touch()
            daemon.ctl("wait-run", run)
            self.assertEqual((marks.read_text(), daemon.steps(run)["a"]["attempt"]), ("x\n", 1))
            whole(daemon)


if __name__ == "__main__":
    unittest.main()
