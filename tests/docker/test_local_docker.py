"""The flavor local_docker on a real engine: what a step sees, how its ends are told apart, what survives what."""
import json
import os
import signal
import sqlite3
import subprocess
import time
import unittest
from collections import Counter
from contextlib import closing

from tests.crash.test_fault_points import points
from tests.lib.daemon import ROOT, Daemon, wait_for
from tests.lib.engine import Engine, shared_engine


class LocalDocker(unittest.TestCase):
    engine: Engine
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = shared_engine()

    def setUp(self) -> None:
        self.daemon = Daemon("grace: 1s\n")
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.daemon.ctl("register-orchestrator", "docker", "--flavor", "local_docker", "--config", f"host={self.engine.address}",
                        "--config", "image=orch-test", "--config", "network=none", "--config", "pull=never")
        self.addCleanup(self.nothing_is_left)

    def nothing_is_left(self) -> None:
        for container in self.engine.containers():
            self.engine.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")

    def submit(self, steps: str, *more: str) -> str:
        return self.daemon.submit(f"name: p\nsteps:\n{steps}", "--orchestrator", "docker", *more)

    def state(self, run: str, step: str) -> str:
        return str(self.daemon.steps(run)[step]["state"])

    def running(self, run: str, step: str = "a") -> None:
        wait_for(f"{step} to run", lambda: self.state(run, step) == "RUNNING")

    def test_data_passes_and_logs_stand_apart(self) -> None:
        run = self.submit(
            "  - {name: a, command: [sh, -c, 'echo out; echo err >&2; echo data > $ORCH_OUTPUT_X; echo 7 > ${outputs.v}; id -u'],"
            " outputs: {x: {}, v: {value: true}}}\n"
            "  - {name: b, command: [sh, -c, 'cat $ORCH_INPUT_X ${inputs.x}; echo ${values.v} $WORD; orch-launch --version >&2; mkdir $ORCH_OUTPUT_F; echo 1 > $ORCH_OUTPUT_F/1'],"
            " inputs: {x: a.x, v: a.v}, outputs: {f: {type: dir}}, env: {WORD: 'a word'}}\n")
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout, f"out\n{os.geteuid()}\n")
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stderr").stdout, "err\n")
        self.assertEqual(self.daemon.ctl("logs", run, "b", "--stream", "stdout").stdout, "data\ndata\n7 a word\n")
        self.assertIn("orch-launch", self.daemon.ctl("logs", run, "b", "--stream", "stderr").stdout)
        shown = self.daemon.json("get-step", run, "b")
        self.assertEqual(shown["environment"], {"WORD": "a word"}, "none of the submitter's")
        attempt = self.daemon.json("get-step", run, "a")["attempts"][0]
        self.assertTrue(attempt["external_id"])
        self.assertIn("/runs/", self.daemon.json("get-run", run)["run_metadata"]["orchestrator_url"])
        wait_for("the containers to be gone", lambda: not self.engine.containers())
        self.assertEqual(list((self.daemon.data / "docker/docker").iterdir()), [], "and their folders")

    def test_ends_are_told_apart(self) -> None:
        run = self.submit(
            "  - {name: code, command: [sh, -c, 'exit 3']}\n"
            "  - {name: signal, command: [sh, -c, 'kill -SEGV $$$$']}\n"
            "  - {name: killed, command: [sh, -c, 'kill -9 $$$$']}\n"
            "  - {name: memory, resources: {memory: 8Mi}, command: [sh, -c, 'x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done']}\n"
            "  - {name: nothing, command: [no-such-program]}\n"
            "  - {name: folder, command: [/tmp]}\n"
            "  - {name: image, image: 'no-such-image:1', command: ['true']}\n")
        self.daemon.ctl("wait-run", run, code=1)
        steps = self.daemon.steps(run)
        got = {n: (s["reason"], s.get("exit_code"), s.get("signal")) for n, s in steps.items()}
        self.assertEqual(got["code"], ("EXIT_CODE", 3, None))
        self.assertEqual(got["signal"], ("SIGNALED", None, 11))
        self.assertEqual(got["killed"], ("SIGNALED", None, 9))
        self.assertEqual(got["memory"], ("OUT_OF_MEMORY", None, 9))
        self.assertEqual(got["nothing"][0], "COMMAND_NOT_FOUND")
        self.assertIn("no-such-program", steps["nothing"]["message"])
        self.assertEqual(got["folder"][0], "COMMAND_NOT_FOUND")
        self.assertEqual(got["image"][0], "IMAGE_PULL_FAILED", steps["image"]["message"])

    def test_no_want_of_memory_is_missed(self) -> None:
        """The engine says nothing of some in a hundred."""
        run = self.submit(f"  - {{name: memory, resources: {{memory: 8Mi}}, foreach: {{i: {list(range(60))}}}, "
                          "command: [sh, -c, 'x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done']}\n")
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(Counter(s["reason"] for s in self.daemon.steps(run).values()), {"OUT_OF_MEMORY": 60})

    def test_what_an_engine_cannot_give_is_refused_at_submit(self) -> None:
        self.daemon.ctl("register-orchestrator", "bare", "--flavor", "local_docker", "--config", f"host={self.engine.address}")
        said = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true'], image: x}\n  - name: b\n    command: ['true']\n"
                                  "    resources: {disk: 1G, memory: 1Mi}\n", "--orchestrator", "bare", code=8)
        self.assertIn("steps[1].image: a step on orchestrator `bare` runs in a container: give it an `image`", said)
        self.assertIn("resources.disk: an engine cannot keep a container to so many bytes", said)
        self.assertIn("at least 6Mi", said)
        self.assertNotIn("steps[0]", said)

    def test_logs_are_live_and_cancel_reaches_the_step(self) -> None:
        run = self.submit("  - {name: a, command: [sh, -c, 'trap \"echo stopping; exit 0\" TERM; echo ready; while true; do sleep 0.1; done']}\n"
                          "  - {name: b, command: [sh, -c, 'trap \"\" TERM; echo ready; while true; do sleep 0.1; done']}\n")
        for step in "ab":
            wait_for("its word", lambda: "ready" in self.daemon.ctl("logs", run, step).stdout)
        began = time.monotonic()
        self.daemon.ctl("cancel-run", run)
        self.daemon.ctl("wait-run", run, code=5)
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "ready\nstopping\n")
        self.assertEqual({self.state(run, s) for s in "ab"}, {"CANCELLED"})
        run = self.submit("  - {name: a, command: [sh, -c, 'trap \"\" TERM; echo ready; while true; do sleep 0.1; done']}\n")
        wait_for("its word", lambda: "ready" in self.daemon.ctl("logs", run, "a").stdout)
        self.daemon.ctl("cancel-run", run, "--force")
        self.daemon.ctl("wait-run", run, code=5)

    def test_steps_outlive_the_daemon(self) -> None:
        gate = self.daemon.home / "gate"
        gate.mkdir()
        run = self.submit(f"  - name: a\n    command: [sh, -c, 'echo began; while [ ! -e {gate}/go ]; do sleep 0.05; done; echo went; echo 1 > $ORCH_OUTPUT_X']\n"
                          f"    outputs: {{x: {{}}}}\n    settings: {{local_docker: {{mounts: ['{gate}:{gate}']}}}}\n"
                          "  - {name: b, command: [cat, '${inputs.x}'], inputs: {x: a.x}}\n")
        wait_for("its word", lambda: "began" in self.daemon.ctl("logs", run, "a").stdout)
        self.daemon.restart(signal.SIGKILL)
        (gate / "go").touch()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "began\nwent\n", "neither lost nor twice")
        self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)
        # One that ended while nobody looked.
        (gate / "go").unlink()
        run = self.submit(f"  - name: a\n    command: [sh, -c, 'while [ ! -e {gate}/go ]; do sleep 0.05; done; echo went; exit 4']\n"
                          f"    settings: {{local_docker: {{mounts: ['{gate}:{gate}']}}}}\n")
        self.running(run)
        self.daemon.kill()
        (gate / "go").touch()
        wait_for("its end", lambda: all(c["State"] == "exited" for c in self.engine.containers()))
        self.daemon.start()
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(self.daemon.steps(run)["a"]["exit_code"], 4)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "went\n")

    def test_killed_around_each_call_it_runs_once(self) -> None:
        marks = self.daemon.home / "marks"
        marks.mkdir()
        for point in (p for p in points("orchd") if p.startswith("docker.")):
            with self.subTest(point):
                once = self.daemon.home / "once"
                once.touch()
                self.daemon.stop()
                self.daemon.faults = f"{point}=kill@{once}"
                self.daemon.start()
                run = point.replace(".", "-")
                file = self.daemon.file(f"name: p\nsteps:\n  - name: a\n    command: [sh, -c, 'echo x >> {marks}/{point}']\n"
                                        f"    settings: {{local_docker: {{mounts: ['{marks}:{marks}']}}}}\n")
                # It may die before it has answered.
                self.daemon.ctl("submit", file, "--name", run, "--orchestrator", "docker", code=None)
                wait_for(f"{point} to fire", lambda: not once.exists())
                assert self.daemon.process is not None
                self.daemon.process.wait(30)
                self.daemon.faults = ""
                self.daemon.start()
                self.daemon.ctl("wait-run", run)
                self.assertEqual((marks / point).read_text(), "x\n")

    def test_many_steps_and_an_engine_that_is_killed(self) -> None:
        """kill -9 of the engine in the middle of fifty steps, then of the daemon too: each attempt runs once, and those that the engine
        ended are tried again."""
        self.daemon.ctl("register-orchestrator", "wide", "--flavor", "local_docker", "--config", f"host={self.engine.address}",
                        "--config", "image=orch-test", "--config", "network=none", "--config", "pull=never", "--config", "cpus=8")
        marks = self.daemon.home / "marks"
        marks.mkdir()
        go = marks / "go"
        # Four of them certainly run when the engine dies; the others begin and end all the while.
        script = (f"echo x >> {marks}/${{item.i}}.$ORCH_ATTEMPT; if [ ${{item.i}} -ge 4 ]; then sleep 0.2; exit; fi; "
                  f"while [ ! -e {go} ]; do sleep 0.05; done")
        run = self.daemon.submit(json.dumps({"name": "p", "steps": [{
            "name": "a", "foreach": {"i": list(range(50))}, "command": ["sh", "-c", script],
            "retry": {"max_attempts": 4, "backoff": {"initial": "10ms"}}, "settings": {"local_docker": {"mounts": [f"{marks}:{marks}"]}}}]}),
            "--orchestrator", "wide")
        for begun in (8, 25):
            wait_for(f"{begun} steps to begin", lambda: len(list(marks.iterdir())) >= begun and len(list(marks.glob("[0-3].*"))) >= 4, 240)
            if begun > 8:
                self.daemon.kill()
            self.engine.kill()
            self.engine.up()
        self.daemon.start()
        go.touch()
        self.daemon.ctl("wait-run", run, "--timeout", "500s", timeout=520)
        go.unlink()
        self.assertEqual({path.read_text() for path in marks.iterdir()}, {"x\n"}, "no attempt ran twice")
        self.assertEqual({path.name.split(".")[0] for path in marks.iterdir()}, {str(i) for i in range(50)})
        tries = {i: self.daemon.json("get-step", run, f"a[{i}]")["attempts"] for i in range(50)}
        attempts = {i: [a["state"] for a in told] for i, told in tries.items()}
        self.assertEqual([(i, a) for i, told in tries.items() for a in told if a["state"] not in ("SUCCEEDED", "LOST")], [])
        self.assertEqual([attempts[i][0] for i in range(4)], ["LOST"] * 4)

    def test_many_steps_and_a_daemon_that_is_killed_again_and_again(self) -> None:
        self.daemon.ctl("register-orchestrator", "wide", "--flavor", "local_docker", "--config", f"host={self.engine.address}",
                        "--config", "image=orch-test", "--config", "network=none", "--config", "pull=never", "--config", "cpus=8")
        marks = self.daemon.home / "marks"
        marks.mkdir()
        run = self.daemon.submit(f"name: p\nsteps:\n  - name: a\n    foreach: {{i: {list(range(50))}}}\n    command: [sh, -c, 'echo x >> {marks}/${{item.i}}; echo line ${{item.i}}']\n"
                                 f"    settings: {{local_docker: {{mounts: ['{marks}:{marks}']}}}}\n", "--orchestrator", "wide")
        for done in (5, 15, 30):
            wait_for(f"{done} steps to begin", lambda: len(list(marks.iterdir())) >= done, 120)
            self.daemon.restart(signal.SIGKILL)
        self.daemon.ctl("wait-run", run)
        self.assertEqual({path.read_text() for path in marks.iterdir()}, {"x\n"}, "each ran once")
        self.assertEqual(len(list(marks.iterdir())), 50)
        for i in (0, 17, 49):
            self.assertEqual(self.daemon.ctl("logs", run, f"a[{i}]").stdout, f"line {i}\n")
        self.assertEqual({s["attempt"] for s in self.daemon.steps(run).values()}, {1})

    def test_settings_reach_the_container(self) -> None:
        """user, network, volumes and /dev/shm, of the orchestrator and of a step."""
        self.engine.call("POST", "/networks/create", {"Name": "orch-net", "Internal": True})
        see = "id -u; id -g; grep -c : /proc/net/dev; df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d' ' -f2"
        steps = [{"name": "plain", "command": ["sh", "-c", f"{see}; echo kept > /v/x"], "settings": {"local_docker": {"mounts": ["orch-volume:/v"]}}},
                 {"name": "other", "after": ["plain"], "command": ["sh", "-c", f"{see}; cat /v/x; echo > /v/y || echo read-only"],
                  "settings": {"local_docker": {"user": "1234:55", "network": "orch-net", "shm_size": "8Mi", "mounts": ["orch-volume:/v:ro"]}}}]
        run = self.daemon.submit(json.dumps({"name": "p", "steps": steps}), "--orchestrator", "docker")
        self.daemon.ctl("wait-run", run)
        plain = self.daemon.ctl("logs", run, "plain", "--stream", "stdout").stdout.split()
        other = self.daemon.ctl("logs", run, "other", "--stream", "stdout").stdout.split()
        self.assertEqual(plain, [str(os.geteuid()), str(os.getegid()), "1", "65536"])
        self.assertEqual(other, ["1234", "55", "2", "8192", "kept", "read-only"])

    def test_the_name_of_somebody_else_is_left_alone(self) -> None:
        once = self.daemon.home / "once"
        once.touch()
        self.daemon.stop()
        self.daemon.faults = f"docker.create=kill@{once}"
        self.daemon.start()
        run = self.submit("  - {name: a, command: ['true']}\n")
        wait_for("the fault", lambda: not once.exists())
        assert self.daemon.process is not None
        self.daemon.process.wait(30)
        with closing(sqlite3.connect(self.daemon.data / "orchd.db")) as db:
            key = db.execute("SELECT key FROM attempt").fetchone()[0]
        foreign = self.engine.call("POST", f"/containers/create?name=orch-{key}", {"Image": "orch-test", "Entrypoint": ["/bin/true"]})[1]["Id"]
        self.daemon.faults = ""
        self.daemon.start()
        self.daemon.ctl("wait-run", run, code=1)
        self.assertIn("somebody else's container", self.daemon.steps(run)["a"]["message"])
        status, container = self.engine.call("GET", f"/containers/{foreign}/json")
        self.assertEqual((status, container["State"]["Status"]), (200, "created"), "it is as it was")

    def test_a_container_that_is_removed_is_lost(self) -> None:
        run = self.submit("  - {name: a, command: [sleep, '1000']}\n")
        self.running(run)
        self.engine.call("DELETE", f"/containers/{self.engine.containers()[0]['Id']}?force=1")
        self.daemon.ctl("wait-run", run, code=1)
        step = self.daemon.steps(run)["a"]
        self.assertIn(step["reason"], ("LOST", "SIGNALED"), step)
        # While no daemon runs: it has run, and does not run again as the same attempt.
        marks = self.daemon.home / "marks"
        marks.mkdir()
        run = self.submit(f"  - {{name: a, command: [sh, -c, 'echo x >> {marks}/a; sleep 1000'], settings: {{local_docker: {{mounts: ['{marks}:{marks}']}}}}}}\n")
        wait_for("it to run", lambda: (marks / "a").exists() and self.state(run, "a") == "RUNNING")
        self.daemon.kill()
        self.engine.call("DELETE", f"/containers/{self.engine.containers()[0]['Id']}?force=1")
        self.daemon.start()
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(self.daemon.steps(run)["a"]["reason"], "LOST")
        self.assertEqual((marks / "a").read_text(), "x\n")

    def test_the_engine_goes_away_and_comes_back(self) -> None:
        self.engine.kill(signal.SIGTERM)
        run = self.submit("  - {name: a, command: [echo, here]}\n")
        wait_for("the word of it", lambda: "no Docker engine listens" in self.daemon.log())
        self.assertIn(self.state(run, "a"), ("WAITING", "READY"))
        self.assertIn("`docker` cannot be reached: no Docker engine listens at", self.daemon.ctl("why", run, "a").stdout)
        self.engine.up()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "here\n")
        # In the middle of a step: the engine ends it when it comes back, and it is tried again.
        run = self.submit("  - {name: a, command: [sh, -c, 'if [ $ORCH_ATTEMPT = 1 ]; then sleep 1000; fi'], retry: {max_attempts: 2, backoff: {initial: 10ms}}}\n")
        self.running(run)
        self.engine.kill()
        self.engine.up()
        self.daemon.ctl("wait-run", run, code=None)
        attempts = self.daemon.json("get-step", run, "a")["attempts"]
        self.assertEqual([(a["state"], a["reason"]) for a in attempts], [("LOST", "LOST"), ("SUCCEEDED", "REASON_UNSPECIFIED")], attempts)

    def test_digits_gives_the_same_bytes_as_on_local(self) -> None:
        if subprocess.run(["/usr/bin/python3", "-c", "import sklearn, matplotlib"], capture_output=True).returncode != 0:
            self.skipTest("Debian's python3-sklearn and python3-matplotlib are not here")
        config = self.daemon.home / "config.json"  # an image of this machine's own Python
        config.write_text(json.dumps({"host": self.engine.address, "image": "orch-test", "network": "none", "pull": "never",
                                      "mounts": ["/usr:/usr:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro", "/etc:/etc:ro"]}))
        self.daemon.ctl("register-orchestrator", "python", "--flavor", "local_docker", "--config-file", str(config))
        for orchestrator in ("local", "python"):
            self.daemon.ctl("submit", ROOT / "examples/digits/pipeline.yaml", "--name", f"on-{orchestrator}",
                            "--orchestrator", orchestrator, "--no-cache", "--wait")
        self.assertIn("15 steps are the same", self.daemon.ctl("diff-runs", "on-local", "on-python", code=None).stdout)

    def test_bad_configurations_are_refused(self) -> None:
        def refused(*config: str) -> str:
            flags = [word for c in config for word in ("--config", c)]
            return self.daemon.ctl("register-orchestrator", "x", "--flavor", "local_docker", *flags, code=8).stderr
        self.assertIn("unix:///PATH", refused("host=ssh://somewhere"))
        self.assertIn("missing, always or never", refused("pull=sometimes"))
        self.assertIn("there are host", refused("colour=red"))
        bad = self.daemon.file("name: p\nsteps:\n  - {name: a, command: ['true'], settings: {local_docker: {mounts: [x], colour: red}}}\n")
        said = self.daemon.ctl("submit", bad, "--orchestrator", "docker", code=8).stderr
        self.assertIn("colour", said)
        self.assertIn("/here:/there", said)


if __name__ == "__main__":
    unittest.main()
