"""The sample plug-in in C++ through the real daemon: a flavor of somebody's own is like a built-in one."""
import os
import signal
import time
import unittest
from pathlib import Path

from tests.crash.test_fault_points import points
from tests.lib.daemon import BIN, Daemon, alive, wait_for

SAMPLE = BIN.parent / "plugins/sample/orch-sample"


def plugin_pid(daemon: Daemon, orchestrator: str) -> int:
    """Of the program that the daemon runs for it; 0: none."""
    path = daemon.data / f"plugins/{orchestrator}/run/pid"
    try:
        pid = int(path.read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return 0
    return pid if alive(pid) else 0


class Sample(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = Daemon("grace: 1s\n")
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.daemon.ctl("register-flavor", SAMPLE)
        self.daemon.ctl("register-orchestrator", "mine", "--flavor", "sample", "--config", "slots=8")

    def submit(self, steps: str, *more: str) -> str:
        return self.daemon.submit(f"name: p\nsteps:\n{steps}", "--orchestrator", "mine", *more)

    def state(self, run: str, step: str) -> str:
        return str(self.daemon.steps(run)[step]["state"])

    def pid(self) -> int:
        return plugin_pid(self.daemon, "mine")

    def test_data_passes_and_logs_stand_apart(self) -> None:
        run = self.submit(
            "  - {name: a, command: [sh, -c, 'echo out; echo err >&2; echo data > $ORCH_OUTPUT_X; echo 7 > ${outputs.v}'], outputs: {x: {}, v: {value: true}}}\n"
            "  - {name: b, command: [sh, -c, 'cat $ORCH_INPUT_X; echo ${values.v} $WORD $ORCH_STEP'], inputs: {x: a.x, v: a.v}, env: {WORD: 'a word'}}\n")
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout, "out\n")
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stderr").stdout, "err\n")
        self.assertEqual(self.daemon.ctl("logs", run, "b").stdout, "data\n7 a word b\n")
        self.assertTrue(self.daemon.json("get-step", run, "a")["attempts"][0]["external_id"])
        self.assertIn("/runs/", self.daemon.json("get-run", run)["run_metadata"]["orchestrator_url"])
        work = self.daemon.data / "plugins/mine/attempts"
        wait_for("the folders to be gone", lambda: not list(work.iterdir()))
        self.assertEqual(list((self.daemon.data / "plugins/mine/state/jobs").iterdir()), [], "and what it remembered")

    def test_ends_are_told_apart(self) -> None:
        run = self.submit("  - {name: code, command: [sh, -c, 'exit 3']}\n"
                          "  - {name: signal, command: [sh, -c, 'kill -SEGV $$$$']}\n"
                          "  - {name: nothing, command: [no-such-program]}\n")
        self.daemon.ctl("wait-run", run, code=1)
        got = {n: (s["reason"], s.get("exit_code"), s.get("signal")) for n, s in self.daemon.steps(run).items()}
        self.assertEqual(got["code"], ("EXIT_CODE", 3, None))
        self.assertEqual(got["signal"], ("SIGNALED", None, 11))
        self.assertEqual(got["nothing"][0], "COMMAND_NOT_FOUND")

    def test_the_life_of_a_flavor(self) -> None:
        shown = self.daemon.json("describe-flavor", "sample")
        self.assertEqual(shown["plugin"], str(SAMPLE))
        self.assertEqual(shown["config_schema"]["properties"]["slots"]["maximum"], 1024)
        self.assertIn("nice", self.daemon.ctl("describe-flavor", "sample").stdout)
        names = [f["name"] for f in self.daemon.json("list-flavors")["flavors"]]
        self.assertEqual(names[-1], "sample", "behind those that are built in")
        self.daemon.ctl("register-flavor", SAMPLE)  # again changes nothing
        self.daemon.ctl("register-flavor", SAMPLE, "--name", "twin")
        said = self.daemon.ctl("register-flavor", SAMPLE, "--name", "local", code=8).stderr
        self.assertIn("built-in flavor", said)
        other = self.daemon.home / "other"
        other.symlink_to(SAMPLE)
        self.assertIn("is that of", self.daemon.ctl("register-flavor", other, code=8).stderr)
        self.assertIn("orchestrator `mine` is of flavor `sample`", self.daemon.ctl("delete-flavor", "sample", code=8).stderr)
        self.daemon.restart(signal.SIGKILL)
        self.assertEqual([f["name"] for f in self.daemon.json("list-flavors")["flavors"]][-2:], ["sample", "twin"])
        run = self.submit("  - {name: a, command: ['true']}\n")
        self.daemon.ctl("wait-run", run)
        self.daemon.ctl("delete-flavor", "twin")
        self.daemon.ctl("delete-orchestrator", "mine")
        self.daemon.ctl("delete-flavor", "sample")
        self.assertEqual(self.daemon.ctl("describe-flavor", "sample", code=3).returncode, 3)
        self.assertIn("built-in", self.daemon.ctl("delete-flavor", "local", code=8).stderr)

    def test_configuration_and_settings_are_checked_by_the_schemas(self) -> None:
        said = self.daemon.ctl("register-orchestrator", "x", "--flavor", "sample", "--config", "slots=2000", "--config", "colour=red",
                               code=8).stderr
        self.assertIn("must be at most 1024", said)
        self.assertIn("there are slots", said, "all that is wrong, at once")
        said = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true'], settings: {sample: {nice: 30, colour: red}}}\n",
                                  "--orchestrator", "mine", code=8)
        self.assertIn("must be at most 19", said)
        self.assertIn("there are nice", said)
        said = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true'], resources: {memory: 1Gi, gpu: 1}}\n"
                                  "  - {name: b, command: ['true'], settings: {smple: {}}}\n", "--orchestrator", "mine", code=8)
        self.assertIn("offers none that it can hold a step to", said)
        self.assertIn("offers no GPUs", said)
        self.assertIn("there is no flavor `smple`", said)
        self.assertIn("mine offers 8", self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true'], resources: {cpu: 9}}\n",
                                                          "--orchestrator", "mine", code=8))
        run = self.submit("  - {name: a, command: [nice], settings: {sample: {nice: 7}}}\n")
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "7\n")

    def test_what_it_cannot_do_is_refused(self) -> None:
        self.daemon.ctl("set-secret", "pw", stdin="x")
        said = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true'], secrets: {PW: pw}}\n"
                                  "  - {name: b, command: ['true'], image: 'x:1', resources: {custom: {frob: 1}, disk: 1G}}\n",
                                  "--orchestrator", "mine", code=8)
        for words in ("cannot keep them secret", "does not run in an image", "offers none", "no disk"):
            self.assertIn(words, said)

    def test_logs_are_live_and_cancel_reaches_the_step(self) -> None:
        run = self.submit("  - {name: a, command: [sh, -c, 'trap \"echo stopping; exit 0\" TERM; echo ready; while true; do sleep 0.1; done']}\n"
                          "  - {name: b, command: [sh, -c, 'trap \"\" TERM; echo ready; while true; do sleep 0.1; done']}\n")
        for step in "ab":
            wait_for("its word", lambda: "ready" in self.daemon.ctl("logs", run, step).stdout)
        began = time.monotonic()
        self.daemon.ctl("cancel-run", run)
        self.daemon.ctl("wait-run", run, code=5)
        self.assertLess(time.monotonic() - began, 20)
        self.assertIn("ready\nstopping\n", self.daemon.ctl("logs", run, "a").stdout)
        self.assertEqual({self.state(run, s) for s in "ab"}, {"CANCELLED"})
        run = self.submit("  - {name: a, command: [sh, -c, 'trap \"\" TERM; echo ready; while true; do sleep 0.1; done']}\n")
        wait_for("its word", lambda: "ready" in self.daemon.ctl("logs", run, "a").stdout)
        self.daemon.ctl("cancel-run", run, "--force")
        self.daemon.ctl("wait-run", run, code=5)

    def test_a_log_past_its_limit_ends_the_step(self) -> None:
        self.daemon.config = "grace: 1s\nlimits: {log_bytes: 4Ki}\n"
        self.daemon.restart()
        run = self.submit("  - {name: a, command: [sh, -c, 'while true; do echo 0123456789abcdef; done']}\n")
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(self.daemon.steps(run)["a"]["reason"], "LOG_LIMIT")

    def test_one_that_was_adopted_keeps_its_limit_of_log(self) -> None:
        self.daemon.config = "grace: 1s\nlimits: {log_bytes: 4Ki}\n"
        self.daemon.restart()
        gate = self.daemon.home / "gate"
        run = self.submit(f"  - {{name: a, command: [sh, -c, 'echo began; while [ ! -e {gate} ]; do sleep 0.05; done; while true; do echo 0123456789abcdef; done']}}\n")
        wait_for("its word", lambda: "began" in self.daemon.ctl("logs", run, "a").stdout)
        self.daemon.restart(signal.SIGKILL)
        gate.touch()
        self.daemon.ctl("wait-run", run, "--timeout", "120s", code=1)
        self.assertEqual(self.daemon.steps(run)["a"]["reason"], "LOG_LIMIT")

    def test_steps_outlive_the_daemon_and_the_plug_in(self) -> None:
        gate = self.daemon.home / "gate"
        run = self.submit(f"  - {{name: a, command: [sh, -c, 'echo began; while [ ! -e {gate} ]; do sleep 0.05; done; echo went; echo 1 > $ORCH_OUTPUT_X'], outputs: {{x: {{}}}}}}\n"
                          "  - {name: b, command: [cat, '${inputs.x}'], inputs: {x: a.x}}\n")
        wait_for("its word", lambda: "began" in self.daemon.ctl("logs", run, "a").stdout)
        first = self.pid()
        self.daemon.restart(signal.SIGKILL)
        wait_for("the next plug-in", lambda: self.pid() not in (0, first))
        self.assertFalse(alive(first), "one that lost its daemon ends")
        second = self.pid()
        os.kill(second, signal.SIGKILL)
        wait_for("the word of it", lambda: "ended by signal 9" in self.daemon.log())
        wait_for("the next plug-in", lambda: self.pid() not in (0, second))
        gate.touch()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "began\nwent\n", "neither lost nor twice")
        self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)

    def test_one_that_hangs_is_ended_by_the_next_daemon(self) -> None:
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)
        self.daemon.restart(signal.SIGKILL)
        wait_for("the next plug-in", lambda: self.pid() not in (0, pid))
        self.assertFalse(alive(pid))
        run = self.submit("  - {name: a, command: ['true']}\n")
        self.daemon.ctl("wait-run", run)

    def test_killed_around_each_call_it_runs_once(self) -> None:
        marks = self.daemon.home / "marks"
        marks.mkdir()
        for point in (p for p in points("orchd") if p.startswith("plugin.")):
            with self.subTest(point):
                once = self.daemon.home / "once"
                once.touch()
                self.daemon.stop()
                if point == "plugin.find":  # of one that was under way
                    self.daemon.faults = ""
                    self.daemon.start()
                    self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: [sh, -c, 'echo x >> {marks}/{point}; sleep 3']}}\n", "--name",
                                       point.replace(".", "-"), "--orchestrator", "mine")
                    wait_for("it to run", lambda: (marks / point).exists())
                    self.daemon.kill()
                    self.daemon.faults = f"{point}=kill@{once}"
                    self.daemon.launch()
                else:
                    self.daemon.faults = f"{point}=kill@{once}"
                    self.daemon.start()
                    file = self.daemon.file(f"name: p\nsteps:\n  - {{name: a, command: [sh, -c, 'echo x >> {marks}/{point}']}}\n")
                    # It may die before it has answered.
                    self.daemon.ctl("submit", file, "--name", point.replace(".", "-"), "--orchestrator", "mine", code=None)
                wait_for(f"{point} to fire", lambda: not once.exists())
                assert self.daemon.process is not None
                self.daemon.process.wait(30)
                self.daemon.faults = ""
                self.daemon.start()
                self.daemon.ctl("wait-run", point.replace(".", "-"))
                self.assertEqual((marks / point).read_text(), "x\n")

    def test_fifty_steps_while_daemon_and_plug_in_are_killed(self) -> None:
        marks = self.daemon.home / "marks"
        marks.mkdir()
        run = self.submit(f"  - name: a\n    foreach: {{i: {list(range(50))}}}\n    command: [sh, -c, 'echo x >> {marks}/${{item.i}}; echo line ${{item.i}}; sleep 0.2']\n")
        for done in (5, 15, 25, 35):
            wait_for(f"{done} steps to begin", lambda: len(list(marks.iterdir())) >= done, 120)
            pid = self.pid()
            if pid:
                os.kill(pid, signal.SIGKILL)
            if done % 10:
                self.daemon.restart(signal.SIGKILL)
        self.daemon.ctl("wait-run", run)
        self.assertEqual({path.read_text() for path in marks.iterdir()}, {"x\n"}, "each ran once")
        self.assertEqual(len(list(marks.iterdir())), 50)
        for i in (0, 17, 49):
            self.assertEqual(self.daemon.ctl("logs", run, f"a[{i}]").stdout, f"line {i}\n")
        self.assertEqual({s["attempt"] for s in self.daemon.steps(run).values()}, {1})

    def test_the_platform_loses_a_job(self) -> None:
        run = self.submit("  - {name: a, command: [sleep, '1000']}\n")
        wait_for("it to run", lambda: self.state(run, "a") == "RUNNING")
        began = next((self.daemon.data / "plugins/mine/state/jobs").glob("*/began"))
        runner = int(began.read_text())
        os.killpg(os.getpgid(runner), signal.SIGKILL)
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(self.daemon.steps(run)["a"]["reason"], "LOST")

    def test_a_program_that_is_gone(self) -> None:
        program = self.daemon.home / "here"
        program.write_bytes(Path(SAMPLE).read_bytes())
        program.chmod(0o755)
        self.daemon.ctl("register-flavor", program, "--name", "gone")
        self.daemon.ctl("register-orchestrator", "g", "--flavor", "gone")
        program.unlink()
        self.daemon.restart()
        row = next(f for f in self.daemon.json("list-flavors")["flavors"] if f["name"] == "gone")
        self.assertEqual(row["status"], "NEEDS")
        self.assertIn(str(program), row["status_message"])


if __name__ == "__main__":
    unittest.main()
