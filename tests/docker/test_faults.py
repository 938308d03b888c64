"""A sick engine: between the daemon and a real one stands a proxy that cuts, delays and garbles. Nothing is started twice, nothing of
others is touched, and the reason has the engine's own words."""
import json
import os
import shutil
import signal
import unittest
from pathlib import Path

from tests.lib.daemon import Daemon, wait_for
from tests.lib.engine import Engine, shared_engine
from tests.support.fault_proxy import Answer, Cut, FaultProxy, Hang, Truncate


class SickEngine(unittest.TestCase):
    engine: Engine

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = shared_engine()

    def setUp(self) -> None:
        self.daemon = Daemon("grace: 1s\n")
        self.addCleanup(self.daemon.close)
        self.proxy = FaultProxy(self.daemon.home / "proxy.sock", self.engine.socket)
        self.addCleanup(self.proxy.close)
        self.daemon.start()
        self.register("docker")
        self.marks = self.daemon.home / "marks"
        self.marks.mkdir()
        self.addCleanup(self.nothing_is_left)

    def nothing_is_left(self) -> None:
        for container in self.engine.containers():
            self.engine.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")

    def register(self, name: str, **config: object) -> None:
        file = self.daemon.file(json.dumps({"host": f"unix://{self.proxy.listen}", "image": "orch-test", "network": "none",
                                            "pull": "never", **config}), "config.json")
        self.daemon.ctl("register-orchestrator", name, "--flavor", "local_docker", "--config-file", file)

    def submit(self, script: str = "true", orchestrator: str = "docker", **more: object) -> str:
        step = {"name": "a", "command": ["sh", "-c", f"echo x >> {self.marks}/a; {script}"],
                "settings": {"local_docker": {"mounts": [f"{self.marks}:{self.marks}"]}}, **more}
        return self.daemon.submit(json.dumps({"name": "p", "steps": [step]}), "--orchestrator", orchestrator)

    def ran(self) -> str:
        path = self.marks / "a"
        return path.read_text() if path.exists() else ""

    def ends_once(self, run: str, code: int = 0) -> None:
        self.daemon.ctl("wait-run", run, "--timeout", "120s", code=1 if code else 0)
        step = self.daemon.steps(run)["a"]
        self.assertEqual((step["state"], step["exit_code"], step["attempt"]), ("FAILED" if code else "SUCCEEDED", code, 1))
        self.assertEqual(self.ran(), "x\n", "once")
        (self.marks / "a").unlink()

    def succeeds_once(self, run: str) -> None:
        self.ends_once(run)

    def test_answers_that_are_lost(self) -> None:
        """Of each call on an attempt's way, before the engine has heard it and after it has done it."""
        for method, path in (("GET", r"/images/orch-test/json"), ("POST", r"/containers/create"), ("POST", r"/containers/[^/]+/start"),
                             ("GET", r"/containers/[^/]+/logs"), ("GET", r"/containers/[^/]+/json$"), ("DELETE", r"/containers/")):
            for when in ("before", "after"):
                with self.subTest(call=f"{method} {path}", when=when):
                    self.proxy.clear()
                    rule = self.proxy.add(method, path, Cut(when=when))
                    code = 3 if path.endswith("json$") else 0  # one that ends well is not looked at
                    self.ends_once(self.submit(f"echo out; exit {code}"), code)
                    wait_for("the fault", lambda: rule.used)

    def test_stops_that_are_lost(self) -> None:
        """They are sent again as long as it runs, whether the engine has not heard of them or is sick."""
        for path, flags in ((r"/containers/[^/]+/stop", ()), (r"/containers/[^/]+/kill", ("--force",))):
            for fault in (Cut(when="before"), Cut(when="after"), Answer(times=2)):
                with self.subTest(call=path, fault=fault):
                    self.proxy.clear()
                    rule = self.proxy.add("POST", path, fault)
                    run = self.submit("exec sleep 1000")
                    wait_for("it to run", lambda: self.ran() and self.daemon.steps(run)["a"]["state"] == "RUNNING")
                    self.daemon.ctl("cancel-run", run, *flags)
                    self.daemon.ctl("wait-run", run, "--timeout", "120s", code=5)
                    self.assertEqual(rule.used, fault.times)
                    (self.marks / "a").unlink()

    def test_a_start_that_cannot_be_noted_is_put_off(self) -> None:
        hang = Hang()
        self.proxy.add("POST", r"/containers/create", hang)
        run = self.submit()
        folder = wait_for("its folder", lambda: next((self.daemon.data / "docker" / "docker").glob("*/scratch"), None)).parent
        wait_for("the call", lambda: self.proxy.asked("POST", "/containers/create"))
        in_the_way = folder.with_name(folder.name + ".started-by.new")
        in_the_way.mkdir()
        hang.release()  # its answer is lost; it is found out that there is none, and it is made
        wait_for("the word of it", lambda: "its start is put off" in self.daemon.log())
        self.assertFalse(self.proxy.asked("POST", "/start"))
        in_the_way.rmdir()
        self.succeeds_once(run)

    def test_one_that_was_adopted_keeps_its_limits(self) -> None:
        self.daemon.config += "limits: {log_bytes: 100K}\n"
        self.daemon.restart()
        gate = self.marks / "gate"
        ends = {"LOG_LIMIT": "while true; do echo a line of words that are not few; done", "OUT_OF_MEMORY": "tail /dev/zero"}
        for reason, script in ends.items():
            run = self.submit(f"while [ ! -e {gate} ]; do sleep 0.1; done; {script}", resources={"memory": "64Mi"})
            wait_for("it to run", lambda: self.ran() and self.daemon.steps(run)["a"]["state"] == "RUNNING")
            self.daemon.restart(signal.SIGKILL)
            gate.touch()
            self.daemon.ctl("wait-run", run, "--timeout", "120s", code=1)
            step = self.daemon.steps(run)["a"]
            self.assertEqual(step["reason"], reason, step)
            (self.marks / "a").unlink()
            gate.unlink()
        self.assertIn(str(64 << 20), step["message"])

    def test_truncated_json(self) -> None:
        for method, path in (("GET", r"/images/orch-test/json"), ("POST", r"/containers/create"), ("GET", r"/containers/[^/]+/json$"),
                             ("GET", r"/containers/json")):
            with self.subTest(f"{method} {path}"):
                self.proxy.clear()
                rule = self.proxy.add(method, path, Truncate())
                if path == r"/containers/json":
                    self.daemon.restart()  # it lists what there is
                code = 3 if path.endswith("json$") else 0
                self.ends_once(self.submit(f"echo out; exit {code}"), code)
                wait_for("the fault", lambda: rule.used)

    def test_an_engine_that_answers_500(self) -> None:
        # For now: it is asked again, and no budget is touched.
        rule = self.proxy.add("POST", r"/containers/create", Answer(times=2))
        self.succeeds_once(self.submit())
        self.assertEqual(rule.used, 2)
        rule = self.proxy.add("POST", r"/containers/[^/]+/start", Answer(times=2))
        self.succeeds_once(self.submit())
        self.assertEqual(rule.used, 2)
        rule = self.proxy.add("GET", r"/containers/[^/]+/logs", Answer(times=3))
        run = self.submit("echo out")
        self.succeeds_once(run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "out\n", "its log is whole")
        self.assertEqual(rule.used, 3)
        rule = self.proxy.add("DELETE", r"/containers/", Answer(times=2))
        self.succeeds_once(self.submit())
        wait_for("nothing to be left", lambda: rule.used == 2 and not self.engine.containers())
        # What it says when it lists and when it is asked for its events is no reason to lose anything either.
        self.proxy.clear()
        for path in (r"/containers/json", r"/events", r"/_ping"):
            self.proxy.add("GET", path, Answer(times=2))
        self.daemon.restart()
        self.succeeds_once(self.submit())
        self.assertIn("driver failed: the proxy says so", self.daemon.log())

    def test_an_engine_that_hangs(self) -> None:
        hang = Hang()
        self.proxy.add("POST", r"/containers/create", hang)
        run = self.submit()
        wait_for("the call", lambda: self.proxy.asked("POST", "/containers/create"))
        # Meanwhile the daemon answers, and a cancel is taken.
        self.assertEqual(self.daemon.steps(run)["a"]["state"], "SUBMITTING")
        other = self.daemon.submit("name: q\nsteps:\n  - {name: a, command: ['true']}\n", "--orchestrator", "local")
        self.daemon.ctl("wait-run", other)
        self.daemon.ctl("cancel-run", run)
        hang.release()
        self.daemon.ctl("wait-run", run, "--timeout", "120s", code=5)
        self.assertEqual(self.ran(), "")
        wait_for("nothing to be left", lambda: not self.engine.containers())

    def test_events_that_never_come(self) -> None:
        """Ends are known without them: the log's end leads to a look."""
        self.proxy.add("GET", r"/events", Hang(times=-1))
        self.daemon.restart()
        self.succeeds_once(self.submit("sleep 0.5"))

    def test_a_log_that_breaks_off_has_no_gap(self) -> None:
        run = self.submit(f"i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; while [ ! -e {self.marks}/go ]; do sleep 0.05; done; echo end")
        wait_for("its words", lambda: "line 1999" in self.daemon.ctl("logs", run, "a").stdout)
        self.engine_restarts_for_the_daemon()
        (self.marks / "go").touch()
        self.succeeds_once(run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "".join(f"line {i}\n" for i in range(2000)) + "end\n")

    def engine_restarts_for_the_daemon(self) -> None:
        """All connections break and new ones are refused for a while; the engine itself goes on."""
        self.proxy.close()
        wait_for("the daemon to see it", lambda: "cannot be reached" in self.daemon.ctl("list-orchestrators", "-o", "json").stdout
                 or "no Docker engine listens" in self.daemon.log())
        self.proxy = FaultProxy(self.daemon.home / "proxy.sock", self.engine.socket)
        self.addCleanup(self.proxy.close)

    def test_an_engine_that_is_stopped_for_a_while(self) -> None:
        """As by a debugger, or a machine without memory: nothing is lost, nothing is run twice."""
        pid = int((self.engine.folder / "pid").read_text())
        run = self.submit(f"while [ ! -e {self.marks}/go ]; do sleep 0.05; done")
        wait_for("it to run", lambda: self.ran() and self.daemon.steps(run)["a"]["state"] == "RUNNING")
        os.kill(pid, signal.SIGSTOP)
        try:
            (self.marks / "go").touch()
            self.daemon.restart(signal.SIGKILL)
            self.assertEqual(self.daemon.steps(run)["a"]["state"], "RUNNING")
        finally:
            os.kill(pid, signal.SIGCONT)
        self.succeeds_once(run)

    # --- what an engine refuses, in its own words ---

    def failed(self, *words: str, script: str = "true", **more: object) -> dict:
        run = self.submit(script, **more)
        self.daemon.ctl("wait-run", run, code=1)
        step = self.daemon.steps(run)["a"]
        for word in words:
            self.assertIn(word, step["message"])
        return step

    def test_refusals_have_the_engine_s_words(self) -> None:
        self.assertEqual(self.failed("No such image: no-such-image:1", image="no-such-image:1")["reason"], "IMAGE_PULL_FAILED")
        self.register("gpus", gpus=2)
        self.assertEqual(self.failed("could not select device driver", orchestrator="gpus", resources={"gpu": 1}, retry={"platform_attempts": 1})["reason"],
                         "UNSCHEDULABLE")
        missing = {"local_docker": {"mounts": ["/no/such/folder:/x"]}}
        self.assertIn("bind source path does not exist: /no/such/folder", self.failed(settings=missing)["message"])
        self.assertIn("no-such-network", self.failed(settings={"local_docker": {"network": "no-such-network"}}, retry={"platform_attempts": 1})["message"])
        self.assertEqual(self.ran(), "")

    def test_too_old_an_engine(self) -> None:
        self.proxy.add("GET", r"^/_ping$", Answer(times=-1, status=200, body=b"OK", headers={"Api-Version": "1.23"}))
        self.register("old", cpus=3)
        wait_for("the word of it", lambda: "the engine speaks API 1.23; 1.41 or later is needed" in self.daemon.log())
        self.proxy.clear()  # it is a newer one now
        self.succeeds_once(self.submit(orchestrator="old"))

    def test_a_socket_that_this_user_may_not_use(self) -> None:
        if os.geteuid() != 0 or shutil.which("setpriv") is None:
            self.skipTest("needs root, which may be another user")
        other = Daemon()
        self.addCleanup(other.close)
        other.home.chmod(0o777)
        plain = other.command
        other.command = lambda: ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *plain()]  # type: ignore[method-assign]
        self.engine.socket.parent.chmod(0o755)
        self.engine.socket.chmod(0o660)
        other.start()
        other.ctl("register-orchestrator", "docker", "--flavor", "local_docker", "--config", f"host={self.engine.address}", "--config", "image=x")
        wait_for("the word of it", lambda: "this user may not use the Docker engine at" in other.log())
        self.assertIn("it must be in the group that owns the socket", other.log())

    def test_where_an_engine_is_looked_for(self) -> None:
        """DOCKER_HOST, else a rootless engine's socket, if the usual one is not there."""
        runtime = self.daemon.home / "runtime"
        runtime.mkdir()
        rootless = FaultProxy(runtime / "docker.sock", self.engine.socket)
        self.addCleanup(rootless.close)
        config = self.daemon.file(json.dumps({"image": "orch-test", "network": "none", "pull": "never"}), "bare.json")
        for variables in ({"DOCKER_HOST": f"unix://{self.proxy.listen}"}, {"DOCKER_HOST": "", "XDG_RUNTIME_DIR": str(runtime)}):
            if not variables["DOCKER_HOST"] and Path("/var/run/docker.sock").exists():
                self.skipTest("this machine has an engine at the usual place")
            with self.subTest(variables):
                self.daemon.stop()
                self.daemon.launch(**variables)
                self.daemon.wait_serving()
                name = f"by-{len(variables)}"
                self.daemon.ctl("register-orchestrator", name, "--flavor", "local_docker", "--config-file", config)
                self.succeeds_once(self.submit(orchestrator=name))
        self.assertTrue(rootless.asked("POST", "/containers/create"))

    def test_disk_full_inside(self) -> None:
        step = self.failed("exit code 1", script="dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>&1 || exit 1",
                           settings={"local_docker": {"shm_size": "4Mi", "mounts": [f"{self.marks}:{self.marks}"]}})
        self.assertEqual(step["exit_code"], 1)
        run = step["run"]
        self.assertIn("No space left on device", self.daemon.ctl("logs", run, "a").stdout)

    def test_a_full_disk_here_is_told_and_the_log_comes_later(self) -> None:
        run = self.submit(f"while [ ! -e {self.marks}/go ]; do sleep 0.05; done; echo words")
        wait_for("it to run", lambda: self.ran())
        out = wait_for("its log's file", lambda: next(self.daemon.data.glob("logs/*/*.out"), None))
        out.unlink()
        out.symlink_to("/dev/full")
        self.daemon.restart(signal.SIGKILL)  # it opens the file anew
        (self.marks / "go").touch()
        wait_for("the word of it", lambda: "No space left on device" in self.daemon.log())
        out.unlink()
        self.succeeds_once(run)
        self.assertEqual(Path(out).read_text(), "words\n")


if __name__ == "__main__":
    unittest.main()
