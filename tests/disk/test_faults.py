"""A disk that fails or is slow, under the real daemon."""
import errno
import json
import statistics
import subprocess
import threading
import time
import unittest
from pathlib import Path

from tests.disk.faults import DATABASE, OUTPUTS, FaultyDaemon, gated, wait_marks
from tests.lib.daemon import wait_for

TRUE = "name: p\nsteps:\n  - {name: a, command: ['true']}\n"


class FailingDisk(unittest.TestCase):
    """One error of the database's disk ends the daemon with exit code 70; the next start has all that it had said."""

    def meet(self, **fault: int) -> str:
        with FaultyDaemon() as daemon:
            gate, marks = daemon.home / "gate", daemon.home / "marks"
            long_run = daemon.submit("name: long\nsteps:\n" + gated("a", gate, marks))
            wait_marks(marks)
            done = [daemon.submit(TRUE) for _ in range(5)]
            for run in done:
                daemon.ctl("wait-run", run)
            daemon.told(which=DATABASE, **fault)
            path = daemon.file(TRUE)
            refused = daemon.ctl("submit", path, "--name", "unsaid", "--timeout", "3s", code=None)
            self.assertNotEqual(refused.returncode, 0, "a run was accepted that no disk has")
            self.assertEqual(daemon.ended(), 70)
            log = daemon.log()
            self.assertIn("commit failed", log)
            hits = daemon.hits()
            self.assertGreater(hits, 0)
            if "sync_error" in fault:
                self.assertEqual(hits, 1, "a sync that had failed was tried again")
            daemon.told()
            daemon.start()
            for run in done:
                self.assertEqual(daemon.state(run), "SUCCEEDED")
            self.assertEqual(daemon.steps(long_run)["a"]["state"], "RUNNING")
            gate.touch()
            daemon.ctl("wait-run", long_run)
            self.assertEqual((marks.read_text(), daemon.steps(long_run)["a"]["attempt"]), ("x\n", 1))
            daemon.ctl("wait-run", daemon.submit(TRUE))
            daemon.stop()
            checked = subprocess.run([*daemon.command(), "--check-data"], capture_output=True, text=True)
            self.assertEqual((checked.returncode, checked.stdout[:8]), (0, "0 faults"), checked.stderr)
            return log

    def test_a_sync_fails(self) -> None:
        self.assertIn("DATABASE_IO", self.meet(sync_error=errno.EIO))

    def test_a_sync_finds_no_space(self) -> None:
        self.assertIn("DATABASE_IO", self.meet(sync_error=errno.ENOSPC))

    def test_a_write_fails(self) -> None:
        self.assertIn("DATABASE_IO", self.meet(write_error=errno.EIO))

    def test_no_space_at_all(self) -> None:
        self.assertIn("DISK_FULL", self.meet(write_error=errno.ENOSPC))

    def test_the_quota_is_used_up(self) -> None:
        self.assertIn("DISK_FULL", self.meet(write_error=errno.EDQUOT))


class FailingOutputs(unittest.TestCase):
    """What stores outputs fails: the attempt does, with the file and the reason, and may be tried again."""

    STEP = ("name: p\nsteps:\n  - name: a\n    command: [sh, -c, 'head -c 200000 /dev/urandom > ${outputs.o}']\n"
            "    outputs: {o: {}}\n")

    def test_is_told_with_the_file_and_the_reason(self) -> None:
        with FaultyDaemon() as daemon:
            daemon.run(self.STEP)  # what steps are started with is there from now on
            for fault, words in (({"sync_error": errno.EIO}, ("cannot sync", "Input/output error")),
                                 ({"create_error": errno.EIO, "write_error": errno.ENOSPC}, ("No space left on device",))):
                daemon.told(which=OUTPUTS, **fault)
                step = daemon.run(self.STEP, code=1)["a"]
                self.assertEqual(step["reason"], "STORE_FAILED", step)
                self.assertIn(str(daemon.data), step["message"])
                for word in words:
                    self.assertIn(word, step["message"])
                self.assertEqual(list((daemon.data / "staging").iterdir()), [], "half of it was left")
            daemon.told()
            self.assertEqual(daemon.run(self.STEP)["a"]["state"], "SUCCEEDED")

    def test_is_tried_again_where_the_step_says_so(self) -> None:
        with FaultyDaemon() as daemon:
            daemon.run(self.STEP)
            daemon.told(which=OUTPUTS, sync_error=errno.EIO)
            run = daemon.submit(self.STEP + "    retry: {max_attempts: 3, backoff: {initial: 500ms}}\n")
            wait_for("back-off", lambda: daemon.steps(run)["a"]["state"] == "BACKOFF")
            daemon.told()
            daemon.ctl("wait-run", run)
            self.assertGreaterEqual(daemon.steps(run)["a"]["attempt"], 2)


class SlowDisk(unittest.TestCase):
    def submit(self, daemon: FaultyDaemon, times: list[float]) -> None:
        begin = time.monotonic()
        code, body = daemon.ask("RunService/SubmitRun", {"pipeline": {"name": "p", "steps": [
            {"name": "a", "command": ["true"]}]}})
        self.assertEqual(code, 200, body)
        times.append(time.monotonic() - begin)

    def test_stalls_lose_nothing_and_pass(self) -> None:
        # The control shares the machine's other load, but not the slow disk.
        with FaultyDaemon() as daemon, FaultyDaemon() as control:
            gate, marks = daemon.home / "gate", daemon.home / "marks"
            # A time-out that a stall of five seconds must not reach by being counted twice.
            run = daemon.submit("name: long\nsteps:\n" + gated("a", gate, marks, "    timeout: 60s\n"))
            wait_marks(marks)
            before: list[float] = []
            for _ in range(40):
                self.submit(daemon, before)
            figures = [f"normal p50 {statistics.median(before) * 1e3:.1f} ms, max {max(before) * 1e3:.1f} ms"]
            for stall in (0.05, 0.5):
                daemon.told(which=DATABASE, sync_delay=int(stall * 1e6))
                during: list[float] = []
                for _ in range(4):
                    self.submit(daemon, during)
                self.assertGreaterEqual(min(during), stall * 0.9, "the disk was not slow")
                figures.append(f"syncs of {stall * 1e3:.0f} ms: p50 {statistics.median(during) * 1e3:.0f} ms")
                daemon.told()
            # Five seconds: calls end at their deadline, reads are answered, nothing is taken for dead.
            daemon.told(which=DATABASE, sync_delay=5_000_000)
            late: list[float] = []
            stalled = threading.Thread(target=self.submit, args=(daemon, late))
            stalled.start()
            wait_for("the stall", lambda: daemon.hits() > 0)
            begin = time.monotonic()
            path = daemon.file(TRUE)
            done = daemon.ctl("submit", path, "--name", "late", "--timeout", "1s", code=None)
            took = time.monotonic() - begin
            self.assertNotEqual(done.returncode, 0)
            self.assertLess(took, 3, "the deadline was not honoured")
            reads = []
            for _ in range(10):
                begin = time.monotonic()
                self.assertEqual(daemon.ask("RunService/GetRun", {"name": run})[0], 200)
                reads.append(time.monotonic() - begin)
            self.assertLess(max(reads), 1, "a read waited for the disk")
            daemon.told()
            stalled.join(30)
            self.assertEqual(len(late), 1, "the stalled call was lost")
            back = time.monotonic()
            after: list[float] = []
            beside: list[float] = []
            while time.monotonic() - back < 5 or len(after) < 40:
                self.submit(daemon, after)
                self.submit(control, beside)
            last, other = (sorted(times[len(times) // 2:]) for times in (after, beside))
            p99, other_p99 = (times[max(0, int(len(times) * 0.99) - 1)] for times in (last, other))
            figures.append(f"5 s: call cut off after {took:.1f} s, reads max {max(reads) * 1e3:.0f} ms; "
                           f"afterwards p50 {statistics.median(last) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms of {len(last)}; "
                           f"control p50 {statistics.median(other) * 1e3:.1f} ms, p99 {other_p99 * 1e3:.1f} ms")
            print("slow disk:", "; ".join(figures))
            self.assertLess(statistics.median(last), 2 * statistics.median(other) + 0.002)
            self.assertLess(p99, 2 * other_p99 + 0.02)  # a few calls decide it, on a machine with other load
            step = daemon.steps(run)["a"]
            self.assertEqual((step["state"], step["attempt"]), ("RUNNING", 1))
            gate.touch()
            daemon.ctl("wait-run", run)
            self.assertEqual(marks.read_text(), "x\n")
            listed = json.loads(daemon.ctl("list-runs", "--page-size", "1", "-o", "json").stdout)
            self.assertTrue(listed["runs"])


class Clock(unittest.TestCase):
    """The wall clock is set; what waits goes by another one."""

    def test_jumps(self) -> None:
        hour = 3600 * 1_000_000
        with FaultyDaemon() as daemon:
            for jump in (hour, -hour, 24 * hour, -24 * hour):
                with self.subTest(hours=jump // hour):
                    marks: Path = daemon.home / f"marks{jump}"
                    run = daemon.submit(
                        f"name: p\nsteps:\n  - name: again\n    command: [sh, -c, 'echo x >> {marks}; [ $(wc -l < {marks}) -ge 2 ]']\n"
                        "    retry: {max_attempts: 2, backoff: {initial: 2s}}\n"
                        "  - name: slow\n    command: [sleep, '300']\n    timeout: 3s\n")
                    begin = time.monotonic()
                    wait_for("back-off and run", lambda: (lambda s: s["again"]["state"] == "BACKOFF" and
                                                          s["slow"]["state"] == "RUNNING")(daemon.steps(run)))
                    daemon.told(clock=jump)
                    wait_for("the second attempt", lambda: marks.read_text() == "x\nx\n", 10)
                    took = time.monotonic() - begin
                    self.assertGreater(took, 1.5, "the back-off ended too soon")
                    self.assertLess(took, 6, "the back-off ended too late")
                    daemon.ctl("wait-run", run, code=1)
                    took = time.monotonic() - begin
                    self.assertGreater(took, 2.5, "timed out too soon")
                    self.assertLess(took, 9, "timed out too late")
                    steps = daemon.steps(run)
                    self.assertEqual(steps["again"]["state"], "SUCCEEDED")
                    self.assertEqual(steps["slow"]["reason"], "RUN_TIMEOUT", steps["slow"])
                    for thing in [*steps.values(), daemon.json("get-run", run)]:
                        self.assertGreaterEqual(thing["end_time"], thing["start_time"], thing)
                    daemon.told()


if __name__ == "__main__":
    unittest.main()
