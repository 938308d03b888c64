"""The flavor slurm on a real cluster: the plug-in that comes with orchd, with everything that can go wrong around it."""
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

from tests.lib.daemon import Daemon, alive, wait_for
from tests.lib.slurm import PLUGIN, Cluster
from tests.plugin.test_sample import plugin_pid


class Base(unittest.TestCase):
    cluster: Cluster
    config: tuple[str, ...] = ()

    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster(cpus=64)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()

    def setUp(self) -> None:
        self.daemon = Daemon("grace: 2s\n")
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.daemon.ctl("register-flavor", PLUGIN)
        self.register("hpc")

    def register(self, name: str, *config: str) -> None:
        chosen = {"slurm_conf": str(self.cluster.conf), "settle_seconds": "5", **dict(c.split("=", 1) for c in config)}
        words = [w for key, value in chosen.items() for w in ("--config", f"{key}={value}")]
        self.daemon.ctl("register-orchestrator", name, "--flavor", "slurm", *words)

    def submit(self, steps: str, *more: str) -> str:
        return self.daemon.submit(f"name: p\nsteps:\n{steps}", "--orchestrator", "hpc", *more)

    def wait(self, run: str, code: int | None = 0, seconds: int = 240) -> None:
        self.daemon.ctl("wait-run", run, "--timeout", f"{seconds}s", code=code, timeout=seconds + 30)

    def state(self, run: str, step: str) -> str:
        return str(self.daemon.steps(run)[step]["state"])

    def running(self, run: str, step: str = "a") -> None:
        wait_for(f"{step} to run", lambda: self.state(run, step) == "RUNNING", 120, every=0.1)

    def pid(self, orchestrator: str = "hpc") -> int:
        return plugin_pid(self.daemon, orchestrator)

    def wrapped(self, sbatch: str) -> Path:
        """A folder of Slurm's programs, with an sbatch of ours in front of the real one."""
        folder = self.daemon.home / "bin"
        folder.mkdir()
        for program in ("squeue", "sacct", "scancel", "sinfo", "scontrol"):
            (folder / program).symlink_to(f"/usr/bin/{program}")
        (folder / "sbatch").write_text("#!/bin/sh\n" + sbatch)
        (folder / "sbatch").chmod(0o755)
        return folder

    def saved(self) -> Path:
        """A copy of all that slurmctld knows now."""
        self.cluster.down("slurmctld")
        self.cluster.up("slurmctld")
        folder = Path(tempfile.mkdtemp(prefix="orchd-slurm-state-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        shutil.copytree(self.cluster.folder / "state", folder / "state")
        return folder / "state"


class Slurm(Base):
    shares, slow = 3, 20

    def test_data_passes_and_logs_stand_apart(self) -> None:
        run = self.submit(
            "  - {name: a, command: [sh, -c, 'echo out; echo err >&2; echo data > $ORCH_OUTPUT_X; echo 7 > ${outputs.v}'], outputs: {x: {}, v: {value: true}}}\n"
            "  - {name: b, command: [sh, -c, 'cat $ORCH_INPUT_X; echo ${values.v} \"$WORD\"; env | grep -c SLURM; pwd'], inputs: {x: a.x, v: a.v}, env: {WORD: \"it's a `word` $HOME\"}}\n")
        self.wait(run)
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout, "out\n")
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stderr").stdout, "err\n")
        self.assertEqual(self.daemon.ctl("logs", run, "b").stdout.splitlines()[:3], ["data", "7 it's a `word` $HOME", "0"],
                         "the environment is the step's, exactly")
        attempt = self.daemon.json("get-step", run, "a")["attempts"][0]
        self.assertTrue(attempt["external_id"].isdigit())
        self.assertEqual(attempt["node"], subprocess.run(["hostname"], capture_output=True, text=True).stdout.strip())
        state = self.daemon.data / "plugins/hpc/state"
        wait_for("nothing to be left", lambda: not list((state / "jobs").iterdir()) and not list((state / "batches").iterdir()), 60)

    def test_ends_are_told_apart(self) -> None:
        run = self.submit("  - {name: code, command: [sh, -c, 'exit 3']}\n"
                          "  - {name: signal, command: [sh, -c, 'kill -SEGV $$$$']}\n"
                          "  - {name: nothing, command: [no-such-program]}\n"
                          "  - {name: limit, command: [sleep, '1000'], settings: {slurm: {time_limit: 1}}}\n"
                          "  - {name: memory, resources: {memory: 20Mi}, command: [sh, -c, 'x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done']}\n"
                          "  - {name: outside, command: [sleep, '1000']}\n"
                          "  - {name: fits, command: ['true'], resources: {memory: 900Gi}}\n"
                          "  - {name: partition, command: ['true'], settings: {slurm: {partition: nowhere}}}\n")
        self.running(run, "outside")
        job = self.daemon.json("get-step", run, "outside")["attempts"][0]["external_id"]
        self.cluster.run("scancel", job)
        self.wait(run, code=1)
        steps = self.daemon.steps(run)
        got = {n: (s["reason"], s.get("exit_code"), s.get("signal")) for n, s in steps.items()}
        self.assertEqual(got["code"], ("EXIT_CODE", 3, None))
        self.assertEqual(got["signal"], ("SIGNALED", None, 11))
        self.assertEqual(got["nothing"][0], "COMMAND_NOT_FOUND")
        self.assertIn("no-such-program", steps["nothing"]["message"])
        self.assertEqual(got["limit"][0], "RUN_TIMEOUT", steps["limit"])
        self.assertIn("TIMEOUT", steps["limit"]["message"])
        if self.cluster.holds_memory():
            self.assertEqual(got["memory"][0], "OUT_OF_MEMORY", steps["memory"])
        self.assertEqual(got["outside"][0], "EVICTED")
        self.assertIn("CANCELLED", steps["outside"]["message"])
        self.assertEqual(got["fits"][0], "UNSCHEDULABLE")
        self.assertIn("node configuration is not available", steps["fits"]["message"].lower(), "Slurm's own words")
        self.assertIn("invalid partition", steps["partition"]["message"].lower())

    def test_a_node_that_fails(self) -> None:
        run = self.submit("  - {name: a, command: [sleep, '1000']}\n")
        self.running(run)
        self.cluster.run("scontrol", "update", f"NodeName={self.cluster.node}", "State=DOWN", "Reason=test")

        def again() -> None:
            subprocess.run(["scontrol", "update", f"NodeName={self.cluster.node}", "State=RESUME"], env=self.cluster.environment, capture_output=True)
            self.cluster.up("slurmd")
        self.addCleanup(again)
        self.cluster.down("slurmd")
        self.wait(run, code=1)
        self.assertEqual(self.daemon.steps(run)["a"]["reason"], "NODE_LOST")

    def test_logs_are_live_and_cancel_reaches_the_step(self) -> None:
        run = self.submit("  - {name: a, command: [sh, -c, 'trap \"echo stopping; exit 0\" TERM; echo ready; while true; do sleep 0.1; done']}\n"
                          "  - {name: b, command: [sh, -c, 'trap \"\" TERM; echo ready; while true; do sleep 0.1; done']}\n")
        for step in "ab":
            wait_for("its word", lambda: "ready" in self.daemon.ctl("logs", run, step).stdout, 60, every=0.1)
        self.daemon.ctl("cancel-run", run)
        self.wait(run, code=5)
        self.assertIn("ready\nstopping\n", self.daemon.ctl("logs", run, "a").stdout)
        self.assertEqual({self.state(run, s) for s in "ab"}, {"CANCELLED"})
        wait_for("Slurm to have ended them", lambda: not self.cluster.jobs("running,pending,completing"), 60, every=0.2)
        # One that waits: it never begins.
        self.cluster.run("scontrol", "update", "PartitionName=main", "State=DOWN")
        self.addCleanup(self.cluster.run, "scontrol", "update", "PartitionName=main", "State=UP")
        run = self.submit("  - {name: a, command: [touch, '${outputs.x}'], outputs: {x: {}}}\n")
        wait_for("it to wait", lambda: self.state(run, "a") == "QUEUED", 60, every=0.1)
        self.daemon.ctl("cancel-run", run, "--force")
        self.wait(run, code=5)
        self.cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
        self.assertEqual(self.cluster.jobs("running,pending"), [])

    def test_a_thousand_tasks_are_one_submission(self) -> None:
        before = {row[0] for row in self.cluster.jobs()}
        began = time.monotonic()
        run = self.submit("  - name: a\n    foreach: {i: " + str(list(range(1000))) + "}\n    command: [sh, -c, 'echo ${item.i}']\n")
        wait_for("them to be there", lambda: len({r[0] for r in self.cluster.jobs()} - before) > 0, 60, every=0.1)
        self.wait(run, seconds=550)
        arrays = {row[0] for row in self.cluster.jobs()} - before
        self.assertEqual(len(arrays), 1, "one sbatch")
        self.assertEqual({s["state"] for s in self.daemon.steps(run).values()}, {"SUCCEEDED"})
        took = time.monotonic() - began
        said = {i: self.log_of(run, f"a[{i}]") for i in range(1000)}
        self.assertEqual({i: text for i, text in said.items() if text != f"{i}\n"}, {}, "each log is whole")
        print(f"1000 tasks in {took:.1f} s", flush=True)

    def log_of(self, run: str, step: str) -> str:
        """Without a process, of which there would be many."""
        status, answer = self.daemon.http("/orch.v1.LogService/ReadLogs", {"run": run, "step": step})
        self.assertEqual(status, 200, answer)
        return base64.b64decode(json.loads(answer)["data"]).decode()


class Faults(Base):
    shares, slow = 5, 15

    def test_munge_is_down(self) -> None:
        self.cluster.down("munged")
        try:
            run = self.submit("  - {name: a, command: [echo, here]}\n")
            wait_for("why to say it", lambda: "unge" in self.daemon.ctl("why", run, "a").stdout or "unge" in self.daemon.log(), 90, every=0.2)
            self.assertNotIn(self.state(run, "a"), ("FAILED", "SUCCEEDED"))
        finally:
            self.cluster.up("munged")
        self.wait(run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "here\n")
        self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)

    def test_slurmctld_is_restarted_under_running_steps(self) -> None:
        marks = self.daemon.home / "marks"
        marks.mkdir()
        run = self.submit(f"  - name: a\n    foreach: {{i: {list(range(20))}}}\n    command: [sh, -c, 'echo x >> {marks}/${{item.i}}; sleep 3']\n"
                          f"  - {{name: b, command: [sh, -c, 'echo x >> {marks}/b'], after: [a]}}\n")
        wait_for("some to begin", lambda: len(list(marks.iterdir())) >= 5, 60)
        self.cluster.down("slurmctld")
        wait_for("the word of it", lambda: "orchestrator is away" in self.daemon.log(), 90, every=0.2)
        self.cluster.up("slurmctld")
        self.wait(run)
        self.assertEqual({path.read_text() for path in marks.iterdir()}, {"x\n"}, "each ran once")
        self.assertEqual(len(list(marks.iterdir())), 21)

    def test_the_controller_has_forgotten_the_end_and_there_is_no_accounting(self) -> None:
        gate = self.daemon.home / "gate"
        run = self.submit(f"  - {{name: a, command: [sh, -c, 'while [ ! -e {gate} ]; do sleep 0.1; done; exit 4']}}\n"
                          f"  - {{name: b, command: [sh, -c, 'while [ ! -e {gate} ]; do sleep 0.1; done']}}\n")
        for step in "ab":
            self.running(run, step)
        # Its own alone: of others slurmctld may say for minutes that they run, if their slurmd was killed.
        jobs = {self.daemon.json("get-step", run, step)["attempts"][0]["external_id"] for step in "ab"}
        self.daemon.kill()
        gate.touch()
        wait_for("their ends", lambda: not jobs & {row[4] for row in self.cluster.jobs("running,completing")}, 120, every=0.2)
        text = self.cluster.conf.read_text()
        self.cluster.conf.write_text(text.replace("MinJobAge=300", "MinJobAge=2"))
        self.addCleanup(lambda: (self.cluster.conf.write_text(text), self.cluster.run("scontrol", "reconfigure")))
        self.cluster.run("scontrol", "reconfigure")
        wait_for("it to forget", lambda: not {r[4] for r in self.cluster.jobs()} & jobs, 120, every=0.5)
        self.daemon.start()
        self.wait(run, code=1)
        steps = self.daemon.steps(run)
        self.assertEqual((steps["a"]["exit_code"], steps["b"]["state"]), (4, "SUCCEEDED"))

    def test_an_answer_of_sbatch_that_is_lost(self) -> None:
        once = self.daemon.home / "once"
        once.touch()
        folder = self.wrapped(f'/usr/bin/sbatch "$@" > {self.daemon.home}/said || exit 1\nif rm {once} 2>/dev/null; then\n'
                              f'  echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2\n  exit 1\nfi\ncat {self.daemon.home}/said\n')
        self.register("lossy", f"bin_dir={folder}")
        mark = self.daemon.home / "mark"
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: [sh, -c, 'echo x >> {mark}']}}\n", "--orchestrator", "lossy")
        self.wait(run)
        self.assertFalse(once.exists())
        self.assertEqual(mark.read_text(), "x\n")
        self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)

    def test_a_submission_that_never_arrived(self) -> None:
        once = self.daemon.home / "once"
        once.touch()
        folder = self.wrapped(f'if rm {once} 2>/dev/null; then\n  echo "sbatch: error: Zero Bytes were transmitted or received" >&2\n  exit 1\nfi\n'
                              'exec /usr/bin/sbatch "$@"\n')
        self.register("lossy", f"bin_dir={folder}")
        mark = self.daemon.home / "mark"
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: [sh, -c, 'echo x >> {mark}']}}\n", "--orchestrator", "lossy")
        self.wait(run)
        self.assertEqual(mark.read_text(), "x\n")

    def test_a_refusal_for_now(self) -> None:
        once = self.daemon.home / "once"
        once.touch()
        folder = self.wrapped(f'if rm {once} 2>/dev/null; then\n  echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2\n  exit 1\nfi\n'
                              'exec /usr/bin/sbatch "$@"\n')
        self.register("lossy", f"bin_dir={folder}")
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n", "--orchestrator", "lossy")
        self.wait(run)
        self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)

    def test_the_plug_in_is_killed_or_hangs(self) -> None:
        gate = self.daemon.home / "gate"
        run = self.submit(f"  - {{name: a, command: [sh, -c, 'echo began; while [ ! -e {gate} ]; do sleep 0.1; done; echo went']}}\n")
        wait_for("its word", lambda: "began" in self.daemon.ctl("logs", run, "a").stdout, 60, every=0.1)
        first = self.pid()
        os.kill(first, signal.SIGKILL)
        wait_for("the next plug-in", lambda: self.pid() not in (0, first), 60)
        second = self.pid()
        os.kill(second, signal.SIGSTOP)
        wait_for("it to be started again", lambda: self.pid() not in (0, second), 120)
        self.assertFalse(alive(second))
        gate.touch()
        self.wait(run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "began\nwent\n")
        self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)

    def test_fifty_steps_while_daemon_and_plug_in_are_killed(self) -> None:
        marks = self.daemon.home / "marks"
        marks.mkdir()
        run = self.submit(f"  - name: a\n    foreach: {{i: {list(range(50))}}}\n    command: [sh, -c, 'echo x >> {marks}/${{item.i}}; echo line ${{item.i}}; sleep 1']\n",
                          "--max-parallel", "8")
        for done in (5, 15, 25, 35):
            wait_for(f"{done} steps to begin", lambda: len(list(marks.iterdir())) >= done, 240)
            pid = self.pid()
            if pid:
                os.kill(pid, signal.SIGKILL)
            if done % 10:
                self.daemon.restart(signal.SIGKILL)
        self.wait(run)
        self.assertEqual({path.read_text() for path in marks.iterdir()}, {"x\n"}, "each ran once")
        self.assertEqual(len(list(marks.iterdir())), 50)
        for i in (0, 17, 49):
            self.assertEqual(self.daemon.ctl("logs", run, f"a[{i}]").stdout, f"line {i}\n")
        self.assertEqual({s["attempt"] for s in self.daemon.steps(run).values()}, {1})

    def check(self, orchestrator: str = "hpc", code: int = 8) -> dict[str, Any]:
        """What is wrong, and what to do about it; of one that is well all that was looked at."""
        said = self.daemon.json("check-orchestrator", orchestrator, code=code)
        self.assertEqual(said["good"], code == 0, said)
        checks = {c["name"]: c for c in said["checks"]}
        return checks if code == 0 else next(c for c in said["checks"] if not c.get("good"))

    def test_asked_how_it_is_it_says_what_is_wrong_and_how_to_mend_it(self) -> None:
        good = self.check(code=0)
        self.assertEqual(list(good), ["plug-in", "programs", "controller", "partition", "submission", "folder"])
        self.assertIn("22.", good["programs"]["text"])
        self.assertIn("main is up, with 1 nodes", good["partition"]["text"])
        self.register("nowhere", "partition=nowhere")
        bad = self.check("nowhere")
        self.assertEqual((bad["name"], "`nowhere`" in bad["text"], "sinfo" in bad["fix"]), ("partition", True, True), bad)
        self.register("odd", "gres=unicorn:1")
        bad = self.check("odd")
        self.assertEqual((bad["name"], "gres" in bad["fix"]), ("submission", True), bad)
        self.cluster.run("scontrol", "update", "PartitionName=main", "State=DOWN")
        try:
            self.assertIn("State=UP", self.check()["fix"])
        finally:
            self.cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
        self.cluster.down("slurmctld")
        try:
            bad = self.check()
            self.assertEqual((bad["name"], "slurmctld" in bad["fix"]), ("controller", True), bad)
        finally:
            self.cluster.up("slurmctld")
        self.cluster.down("munged")
        try:
            bad = self.check()
            self.assertEqual((bad["name"], "munge" in bad["fix"]), ("munge", True), bad)
        finally:
            self.cluster.up("munged")
        wait_for("it to be well again", lambda: self.daemon.json("check-orchestrator", "hpc", code=None)["good"], 60, every=0.2)
        self.assertEqual(self.cluster.jobs("running,pending"), [], "nothing was started")
        self.daemon.ctl("register-orchestrator", "bare", "--flavor", "slurm", "--config", "bin_dir=/no/such")
        bad = self.check("bare")
        self.assertEqual((bad["name"], "bin_dir" in bad["fix"]), ("programs", True), bad)
        os.kill(self.pid(), signal.SIGSTOP)
        bad = self.check()
        self.assertIn("did not answer within 9 s", bad["text"])
        self.assertIn("plugin.log", bad["fix"])

    def test_jobs_that_a_killed_slurmctld_has_forgotten(self) -> None:
        marks = self.daemon.home / "marks"
        marks.mkdir()
        gate = self.daemon.home / "gate"
        held = self.daemon.home / "held"
        held.touch()
        folder = self.wrapped(f'if [ -e {held} ]; then exec /usr/bin/sbatch --hold "$@"; fi\nexec /usr/bin/sbatch "$@"\n')
        self.register("waits", f"bin_dir={folder}")
        keep = self.saved()
        command = f"echo x >> {marks}/$ORCH_STEP.$ORCH_ATTEMPT; while [ ! -e {gate} ]; do sleep 0.1; done"
        run = self.daemon.submit(f"name: p\nsteps:\n  - name: waits\n    orchestrator: waits\n    foreach: {{i: [1, 2, 3]}}\n    command: [sh, -c, '{command}']\n"
                                 f"  - {{name: runs, command: [sh, -c, '{command}'], retry: {{max_attempts: 2}}}}\n", "--orchestrator", "hpc")
        wait_for("its mark", (marks / "runs.1").exists, 60)
        wait_for("the others to be there", lambda: all(self.state(run, f"waits[{i}]") == "QUEUED" for i in range(3)), 60, every=0.1)
        held.unlink()
        self.cluster.kill_and_forget(keep)
        wait_for("those to begin that had not", lambda: all((marks / f"waits[{i}].1").exists() for i in range(3)), 120, every=0.1)
        wait_for("the next attempt of the one that had", (marks / "runs.2").exists, 120, every=0.1)
        gate.touch()
        self.wait(run)
        steps = self.daemon.steps(run)
        self.assertEqual({n: s["attempt"] for n, s in steps.items() if n != "waits"}, {"runs": 2, **{f"waits[{i}]": 1 for i in range(3)}})
        attempts = self.daemon.json("get-step", run, "runs")["attempts"]
        self.assertEqual([a["state"] for a in attempts], ["LOST", "SUCCEEDED"])
        self.assertEqual({path.read_text() for path in marks.iterdir()}, {"x\n"}, "each attempt began once")
        self.assertIn("submitted again as", (self.daemon.data / "plugins/waits/plugin.log").read_text())

    def test_a_forgotten_job_that_is_cancelled_never_begins(self) -> None:
        mark = self.daemon.home / "mark"
        folder = self.wrapped('exec /usr/bin/sbatch --hold "$@"\n')
        self.register("waits", f"bin_dir={folder}")
        keep = self.saved()
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: [touch, {mark}]}}\n", "--orchestrator", "waits")
        wait_for("it to wait", lambda: self.state(run, "a") == "QUEUED", 60, every=0.1)
        self.cluster.kill_and_forget(keep)
        self.daemon.ctl("cancel-run", run)
        self.wait(run, code=5)
        self.assertFalse(mark.exists())

    def test_fifty_steps_while_slurmctld_and_slurmd_are_killed(self) -> None:
        marks = self.daemon.home / "marks"
        marks.mkdir()
        run = self.submit(f"  - name: a\n    foreach: {{i: {list(range(50))}}}\n    retry: {{max_attempts: 4}}\n"
                          f"    command: [sh, -c, 'echo x >> {marks}/${{item.i}}.$ORCH_ATTEMPT; echo line ${{item.i}}; sleep 1']\n", "--max-parallel", "8")
        asked = time.monotonic()

        def over() -> bool:
            # What a slurmd that was killed was just starting runs for slurmctld until it asks again, which it does by itself in minutes.
            nonlocal asked
            if time.monotonic() - asked > 15:
                asked = time.monotonic()
                self.cluster.run("scontrol", "reconfigure")
            # A slurmctld that had not saved that a job runs starts it again, is told that it runs, and drains the node: somebody has to say
            # that the node is well.
            if "drain" in self.cluster.run("sinfo", "-h", "-o", "%T"):
                self.cluster.run("scontrol", "update", f"NodeName={self.cluster.node}", "State=RESUME")
            return self.daemon.state(run) in ("SUCCEEDED", "FAILED")

        for number, done in enumerate((5, 15, 25, 35)):
            wait_for(f"{done} steps to begin", lambda: over() or len({p.name.split(".")[0] for p in marks.iterdir()}) >= done, 240, every=0.5)
            part = ("slurmctld", "slurmd")[number % 2]
            self.cluster.kill(part)
            if number == 2:
                os.kill(self.pid(), signal.SIGKILL)
            if number == 3:
                self.daemon.restart(signal.SIGKILL)
            self.cluster.up(part)
        wait_for("the end", over, 400, every=0.5)
        steps = self.daemon.steps(run)
        self.assertEqual({s["state"] for s in steps.values()}, {"SUCCEEDED"})
        self.assertEqual({path.read_text() for path in marks.iterdir()}, {"x\n"}, "each attempt ran once")
        for i in range(50):
            begun = sorted(int(p.name.split(".")[1]) for p in marks.glob(f"{i}.*"))
            self.assertEqual(begun, sorted(set(begun)))
            self.assertLessEqual(begun[-1], steps[f"a[{i}]"]["attempt"])
            self.assertEqual(self.daemon.ctl("logs", run, f"a[{i}]").stdout, f"line {i}\n")
        print("attempts:", sorted(s["attempt"] for s in steps.values())[-5:], flush=True)

    def test_configurations_that_cannot_work(self) -> None:
        def refused(*config: str) -> str:
            return self.daemon.ctl("register-orchestrator", "x", "--flavor", "slurm", *[w for c in config for w in ("--config", c)], code=8).stderr
        self.assertIn("there is no file /no/slurm.conf", refused("slurm_conf=/no/slurm.conf"))
        self.assertIn("there are account", refused("colour=red"))
        self.assertIn("must be at most 10000", refused("array_size=20000"))


if __name__ == "__main__":
    unittest.main()
