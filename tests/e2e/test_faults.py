"""What goes wrong around a step or the daemon, and what is then true."""
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.lib.daemon import Daemon, alive, files_below, wait_for


class StepFaults(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon("limits: {log_bytes: 104857600}\n")
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    def one(self, more: str) -> dict:
        return self.daemon.run(f"name: p\nsteps:\n  - name: a\n{more}", code=1)["a"]

    def test_missing_command(self) -> None:
        step = self.one("    command: [no-such-program-here]\n")
        self.assertEqual(step["reason"], "COMMAND_NOT_FOUND")
        self.assertEqual(self.one("    command: [/etc/passwd]\n")["reason"], "COMMAND_NOT_FOUND")

    def test_missing_working_directory(self) -> None:
        self.assertEqual(self.one("    command: ['true']\n    working_dir: /no/such/dir\n")["reason"], "WORKING_DIR_INVALID")

    def test_outputs(self) -> None:
        self.assertEqual(self.one("    command: ['true']\n    outputs: {x: {}}\n")["reason"], "OUTPUT_MISSING")
        step = self.one("    command: [ln, -s, /etc/passwd, '${outputs.x}']\n    outputs: {x: {}}\n")
        self.assertEqual(step["reason"], "OUTPUT_INVALID")
        self.assertIn("symbolic link", step["message"])
        step = self.one("    command: [sh, -c, 'mkdir ${outputs.x}; ln -s /etc ${outputs.x}/out']\n    outputs: {x: {type: dir}}\n")
        self.assertEqual(step["reason"], "OUTPUT_INVALID")
        step = self.one("    command: [sh, -c, 'echo no json > ${outputs.x}']\n    outputs: {x: {value: true}}\n")
        self.assertEqual(step["reason"], "OUTPUT_INVALID")
        step = self.one("    command: [sh, -c, 'head -c 100000 /dev/zero | tr \"\\\\0\" 1 > ${outputs.x}']\n    outputs: {x: {value: true}}\n")
        self.assertIn("value_bytes", step["message"])

    def test_signal_and_exit_code_are_told_apart(self) -> None:
        step = self.one("    command: [sh, -c, 'kill -9 $$$$']\n")
        self.assertEqual((step["reason"], step["signal"]), ("SIGNALED", 9))
        step = self.one("    command: [sh, -c, 'exit 137']\n")
        self.assertEqual((step["reason"], step["exit_code"]), ("EXIT_CODE", 137))

    def test_a_flood_of_log_meets_its_limit(self) -> None:
        before = self.daemon.memory()
        step = self.one("    command: [sh, -c, 'yes 0123456789012345678901234567890123456789']\n")
        self.assertEqual(step["reason"], "LOG_LIMIT")
        self.assertLess(self.daemon.memory() - before, 10 << 20)

    def test_a_gigabyte_of_log_within_the_limit(self) -> None:
        with Daemon() as daemon:
            daemon.run("name: p\nsteps:\n  - {name: warm, command: ['true']}\n")
            before = daemon.memory()
            steps = daemon.run("name: p\nsteps:\n  - {name: a, command: [sh, -c, 'head -c 1000000000 /dev/zero']}\n", "--name", "gb")
            self.assertEqual(steps["a"]["state"], "SUCCEEDED")
            self.assertLess(daemon.memory() - before, 10 << 20)
            tail = subprocess.run([*daemon.command()[:0], "orchctl", "logs", "gb", "a", "--tail", "1"], env=daemon.environment(),
                                  stdout=subprocess.DEVNULL, timeout=60)
            self.assertEqual(tail.returncode, 0)
            self.assertLess(daemon.memory() - before, 30 << 20)


class DaemonFaults(unittest.TestCase):
    LONG = ("name: long\nsteps:\n  - name: a\n    command: [sh, -c, 'echo begin; echo x >> MARKS; "
            "while [ ! -e GATE ]; do sleep 0.02; done; echo end; echo v > ${outputs.o}']\n    outputs: {o: {}}\n"
            "  - {name: b, command: [cat, '${inputs.o}'], inputs: {o: a.o}}\n")

    def start_long(self, daemon: Daemon) -> tuple[str, Path, Path]:
        gate, marks = daemon.home / "gate", daemon.home / "marks"
        run = daemon.submit(self.LONG.replace("GATE", str(gate)).replace("MARKS", str(marks)))
        wait_for("the step to run", lambda: marks.exists())
        return run, gate, marks

    def check_long(self, daemon: Daemon, run: str, marks: Path) -> None:
        daemon.ctl("wait-run", run)
        self.assertEqual(marks.read_text(), "x\n")
        steps = daemon.steps(run)
        self.assertEqual([steps[n]["attempt"] for n in "ab"], [1, 1])
        self.assertEqual(daemon.ctl("logs", run, "a").stdout, "begin\nend\n")
        self.assertEqual(daemon.ctl("logs", run, "b").stdout, "v\n")

    def test_sigterm_leaves_steps_running(self) -> None:
        with Daemon() as daemon:
            run, gate, marks = self.start_long(daemon)
            daemon.restart(signal.SIGTERM)
            self.assertEqual(daemon.steps(run)["a"]["state"], "RUNNING")
            gate.touch()
            self.check_long(daemon, run, marks)

    def test_kill_and_end_while_away(self) -> None:
        with Daemon() as daemon:
            run, gate, marks = self.start_long(daemon)
            daemon.kill(signal.SIGKILL)
            gate.touch()
            slot = wait_for("the step to end", lambda: [p for p in files_below(daemon.data / "local/slots", "output/o") if p.read_text()])
            self.assertTrue(slot)
            daemon.start()
            self.check_long(daemon, run, marks)

    def test_death_of_the_supervisor_is_told_truthfully(self) -> None:
        with Daemon() as daemon:
            pid_file = daemon.home / "pid"
            run = daemon.submit(f"name: p\nsteps:\n  - name: a\n    command: [sh, -c, 'echo $$$$ > {pid_file}; exec sleep 300']\n")
            pid = int(wait_for("the step", lambda: pid_file.exists() and pid_file.read_text().strip()))
            os.kill(daemon.supervisor_pid(), signal.SIGKILL)
            daemon.ctl("wait-run", run, code=1)
            self.assertEqual(daemon.steps(run)["a"]["reason"], "LOST")
            self.assertFalse(alive(pid))
            self.assertEqual(daemon.run("name: p\nsteps:\n  - {name: a, command: ['true']}\n")["a"]["state"], "SUCCEEDED")

    def test_watch_goes_on_over_a_restart(self) -> None:
        with Daemon() as daemon:
            run, gate, marks = self.start_long(daemon)
            watch = subprocess.Popen(["orchctl", "watch-run", run], env=daemon.environment(), text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert watch.stdout is not None
            watch.stdout.readline()  # it is connected
            daemon.restart(signal.SIGKILL)
            gate.touch()
            out, _ = watch.communicate(timeout=60)
            self.assertEqual(watch.returncode, 0, out)
            self.assertIn("SUCCEEDED", out)

    def test_back_off_and_queue_survive_a_restart(self) -> None:
        with Daemon() as daemon:
            marks = daemon.home / "marks"
            run = daemon.submit(f"name: p\nsteps:\n  - name: a\n    command: [sh, -c, 'echo x >> {marks}; [ $(wc -l < {marks}) -ge 2 ]']\n"
                                "    retry: {max_attempts: 2, backoff: {initial: 1s}}\n"
                                "  - {name: b, command: ['true'], after: [a]}\n")
            wait_for("back-off", lambda: daemon.steps(run)["a"]["state"] == "BACKOFF")
            daemon.restart(signal.SIGKILL)
            daemon.ctl("wait-run", run)
            self.assertEqual(daemon.steps(run)["a"]["attempt"], 2)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("mount"), "a small file system needs root")
    def test_full_disk(self) -> None:
        place = tempfile.mkdtemp(prefix="orchd-full-")
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220m", "none", place], capture_output=True).returncode != 0:
            os.rmdir(place)
            self.skipTest("this machine does not let a test mount a tmpfs")
        try:
            with Daemon(data_dir=place + "/data") as daemon:
                first = daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n")
                daemon.ctl("wait-run", first)
                filler = Path(place) / "filler"
                with filler.open("wb") as out:
                    try:
                        while True:
                            out.write(b"x" * (1 << 20))
                            out.flush()
                    except OSError:
                        pass
                path = daemon.file("name: p\nsteps:\n  - {name: a, command: ['true']}\n")
                refused = wait_for("a refusal", lambda: (lambda d: d if d.returncode != 0 else None)(
                    daemon.ctl("submit", path, "--timeout", "2s", code=None)))
                self.assertIn("full", refused.stderr)
                self.assertEqual(daemon.state(first), "SUCCEEDED")
                filler.unlink()
                wait_for("room again", lambda: daemon.ctl("submit", path, "--timeout", "5s", code=None).returncode == 0)
                daemon.restart(signal.SIGKILL)
                self.assertEqual(daemon.state(first), "SUCCEEDED")
        finally:
            subprocess.run(["umount", "-l", place], check=False)
            os.rmdir(place)


if __name__ == "__main__":
    unittest.main()
