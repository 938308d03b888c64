"""The process is killed exactly at each named point, and all that was acknowledged comes to its end all the same.

Each point of `orchd --list-fault-points` and `orch-supervisor --list-fault-points` has to fire: one that no scenario
reaches fails, so the list stays true. ORCH_TEST_SEEDS seeds for each (1; the long run takes 3).
"""
import contextlib
import os
import random
import signal
import subprocess
import unittest
from pathlib import Path
from typing import Callable

import grpc

from tests.lib import dags
from tests.lib.api import Api, message, pipeline
from tests.lib.daemon import BIN, ROOT, Daemon, files_below, wait_for
from tests.lib.oracle import Oracle, Traffic

SEEDS = int(os.environ.get("ORCH_TEST_SEEDS", "1"))
SEED = int(os.environ.get("ORCH_TEST_SEED", str(random.randrange(1 << 30))))
CONFIG = "grace: 300ms\nflavors: {fake: true}\n"
MIX = [dags.chain, dags.mesh, dags.early, dags.cancelled, dags.flaky, dags.cached, dags.fan, dags.grows,
       dags.leaves_behind]
# Of the traffic, for points that not every mix reaches.
REACHED_BY = {"hook": dags.chain, "cancel": dags.cancelled, "publish": dags.early, "resolve": dags.cached, "store": dags.mesh,
              "fanout": dags.grows}


# Points that need a platform of its own, and the suite that meets them there.
ELSEWHERE = {"docker": "tests/docker", "kubernetes": "tests/kubernetes", "tekton": "tests/tekton", "plugin": "tests/plugin",
             "backup": "tests/disk", "restore": "tests/disk"}


def points(program: str) -> list[str]:
    done = subprocess.run([str(BIN / program), "--list-fault-points"], capture_output=True, text=True, check=True)
    return done.stdout.split()


class FaultPoints(unittest.TestCase):
    """One daemon with its data directory for all; after each point everything is settled and checked."""

    daemon: Daemon
    oracle: Oracle
    traffic: Traffic
    fired: list[str] = []

    @classmethod
    def setUpClass(cls) -> None:
        print(f"\nseed {SEED}", flush=True)
        cls.rng = random.Random(SEED)
        cls.daemon = Daemon(CONFIG)
        cls.daemon.start()
        cls.addClassCleanup(cls.daemon.close)
        cls.oracle = Oracle(cls.daemon, random.Random(SEED + 1))
        cls.addClassCleanup(lambda: setattr(cls.oracle, "ended", True))
        cls.traffic = Traffic(cls.oracle, MIX, open_runs=4)
        cls.traffic.start()

    def order(self, point: str, passes: int) -> Path:
        once = self.daemon.home / "once"
        once.touch()
        self.daemon.faults = f"{point}:{passes}=kill@{once}"
        return once

    def replace(self) -> None:
        """The next daemon follows its orders, maybe before it serves."""
        self.oracle.serving.clear()
        assert self.daemon.process is not None
        if self.daemon.process.poll() is None:
            self.daemon.kill(signal.SIGKILL)
        self.daemon.launch()
        try:
            self.daemon.wait_serving()
        except AssertionError:
            if self.daemon.process.poll() is None:
                raise
            return  # it died at a point of its start
        self.oracle.serving.set()

    def gone(self) -> bool:
        assert self.daemon.process is not None
        return self.daemon.process.poll() is not None

    def ended_by_fault(self, point: str, once: Path) -> None:
        wait_for(f"{point} to fire", lambda: not once.exists())
        if not point.startswith("supervisor."):
            wait_for(f"the daemon to die at {point}", self.gone)
        self.daemon.faults = ""
        if self.gone():
            self.replace()
        self.assertTrue(self.oracle.serving.is_set())
        self.oracle.settle(self.traffic, 60)

    def submit_plain(self, name: str, described: dict, orchestrator: str = "") -> None:
        with Api(self.daemon) as api:
            api.call("RunService.SubmitRun", message("SubmitRunRequest", name=name, orchestrator=orchestrator,
                                                     pipeline=pipeline(described), request_id=name))

    # --- how each point is reached ---

    def by_traffic(self, point: str, passes: int) -> None:
        once = self.order(point, passes)
        # Enough that every point is reached, whatever is drawn; it ends with the fault.
        self.traffic.kinds, self.traffic.limit = MIX, 100
        self.replace()
        for word, kind in REACHED_BY.items():
            if word in point:
                self.oracle.make(kind)
        self.traffic.on.set()
        self.ended_by_fault(point, once)

    def by_restart(self, point: str, passes: int) -> None:
        """In a start that finds open runs."""
        self.traffic.kinds, self.traffic.limit = MIX, 6
        self.traffic.on.set()
        wait_for("open runs", lambda: sum(bool(s.run_id) for s in self.oracle.open()) >= 2 or self.traffic.limit <= 0)
        once = self.order(point, passes)
        self.replace()
        self.ended_by_fault(point, once)

    def by_stop(self, point: str, passes: int) -> None:
        once = self.order(point, 1)
        self.replace()
        self.traffic.kinds, self.traffic.limit = MIX, 6
        self.traffic.on.set()
        wait_for("open runs", lambda: sum(bool(s.run_id) for s in self.oracle.open()) >= 2)
        self.oracle.serving.clear()
        self.daemon.process.send_signal(signal.SIGTERM)
        self.ended_by_fault(point, once)

    def by_first_start(self, point: str, passes: int) -> None:
        fresh = Daemon()
        with contextlib.closing(fresh):
            once = fresh.home / "once"
            once.touch()
            fresh.faults = f"{point}=kill@{once}"
            fresh.launch()
            assert fresh.process is not None
            self.assertEqual(fresh.process.wait(30), -signal.SIGKILL)
            self.assertFalse(once.exists())
            fresh.faults = ""
            fresh.start()
            self.assertEqual(fresh.run("name: ok\nsteps:\n  - {name: a, command: ['true']}\n")["a"]["state"], "SUCCEEDED")

    def by_first_secret(self, point: str, passes: int) -> None:
        fresh = Daemon()
        with contextlib.closing(fresh):
            once = fresh.home / "once"
            once.touch()
            fresh.faults = f"{point}=kill@{once}"
            fresh.start()
            fresh.ctl("set-secret", "s", "--timeout", "2s", stdin="a value", code=None)
            assert fresh.process is not None
            self.assertEqual(fresh.process.wait(30), -signal.SIGKILL)
            self.assertFalse(once.exists())
            fresh.faults = ""
            fresh.start()
            fresh.ctl("set-secret", "s", stdin="another value")
            step = "{name: a, command: [sh, -c, 'test \"$S\" = \"another value\"'], secrets: {S: s}}"
            self.assertEqual(fresh.run(f"name: ok\nsteps:\n  - {step}\n")["a"]["state"], "SUCCEEDED")

    def by_deletion(self, point: str, passes: int) -> None:
        """Of a run with logs, outputs and steps; the next daemon goes on with it."""
        fresh = Daemon()
        with contextlib.closing(fresh):
            once = fresh.home / "once"
            once.touch()
            fresh.faults = f"{point}=kill@{once}"
            fresh.start()
            run = fresh.submit("name: goes\nsteps:\n  - name: a\n    command: [sh, -c, 'echo log; seq 30000 > $ORCH_OUTPUT_O']\n"
                               "    outputs: {o: {}}\n")
            fresh.ctl("wait-run", run)
            fresh.ctl("delete-run", run, code=None)  # it may die before it answers
            wait_for(f"{point} to fire", lambda: not once.exists())
            wait_for("the daemon to die", lambda: fresh.process is not None and fresh.process.poll() is not None)
            fresh.faults = ""
            fresh.start()
            fresh.ctl("get-run", run, code=3)
            wait_for("the bytes to go", lambda: not list((fresh.data / "blobs").glob("*/*")))

    def by_delivery(self, point: str, passes: int) -> None:
        """Of a step that shares no files with the daemon: its launcher goes on where it was."""
        fresh = Daemon()
        with contextlib.closing(fresh):
            once = fresh.home / "once"
            once.touch()
            fresh.faults = f"{point}:{passes}=kill@{once}"
            fresh.start()
            fresh.ctl("register-orchestrator", "far", "--flavor", "local", "--config", "artifacts=daemon")
            run = fresh.submit("name: far\nsteps:\n  - name: a\n    command: [sh, -c, 'seq 900000 > $ORCH_OUTPUT_F; mkdir $ORCH_OUTPUT_D; "
                               "for i in 1 2 3; do seq $i > $ORCH_OUTPUT_D/$i; done']\n    outputs: {f: {}, d: {type: dir}}\n"
                               "  - {name: b, inputs: {f: a.f, d: a.d}, command: [sh, -c, 'wc -l < $ORCH_INPUT_F; cat $ORCH_INPUT_D/3']}\n",
                               "--orchestrator", "far")
            wait_for(f"{point} to fire", lambda: not once.exists())
            wait_for("the daemon to die", lambda: fresh.process is not None and fresh.process.poll() is not None)
            fresh.faults = ""
            fresh.start()
            fresh.ctl("wait-run", run)
            self.assertEqual(fresh.ctl("logs", run, "b").stdout, "900000\n1\n2\n3\n")
            self.assertEqual(len(fresh.json("get-step", run, "a")["attempts"]), 1)

    def by_store(self, point: str, passes: int) -> None:
        """Of a run with an artifact store: what it makes is there before its step succeeds. On S3: tests/s3."""
        fresh = Daemon()
        with contextlib.closing(fresh):
            once = fresh.home / "once"
            once.touch()
            fresh.faults = f"{point}=kill@{once}"
            fresh.start()
            store = fresh.home / "store"
            fresh.ctl("register-artifact-store", "disk", "--flavor", "local", "--config", f"path={store}")
            fresh.ctl("register-stack", "kept", "--orchestrator", "local", "--artifact-store", "disk")
            run = fresh.submit("name: p\nsteps:\n  - name: a\n    command: [sh, -c, 'seq 90000 > $ORCH_OUTPUT_F; mkdir $ORCH_OUTPUT_D; "
                               "for i in 1 2 3; do seq $i > $ORCH_OUTPUT_D/$i; done']\n    outputs: {f: {}, d: {type: dir}}\n", "--stack", "kept")
            wait_for(f"{point} to fire", lambda: not once.exists())
            wait_for("the daemon to die", lambda: fresh.process is not None and fresh.process.poll() is not None)
            fresh.faults = ""
            fresh.start()
            fresh.ctl("wait-run", run)
            self.assertEqual(len(fresh.json("get-step", run, "a")["attempts"]), 1)
            self.assertEqual(len([p for p in (store / "blobs").rglob("*") if p.is_file()]), 5)  # a file, a listing and its three

    def by_what_was_left(self, point: str, passes: int) -> None:
        """Of a step that ended while there was no daemon: the one that takes what it left is killed, the next one takes it."""
        fresh = Daemon("limits: {launcher_patience_seconds: 1}\n")
        with contextlib.closing(fresh):
            once, gate = fresh.home / "once", fresh.home / "gate"
            fresh.start()
            fresh.ctl("register-orchestrator", "far", "--flavor", "local", "--config", "artifacts=daemon")
            run = fresh.submit(f"name: p\nsteps:\n  - {{name: a, command: [sh, -c, 'echo ready; until test -e {gate}; do sleep 0.05; done; "
                               "seq 90000 > $ORCH_OUTPUT_F; mkdir $ORCH_OUTPUT_D; echo x > $ORCH_OUTPUT_D/x'], outputs: {f: {}, d: {type: dir}}}\n",
                               "--orchestrator", "far")
            wait_for("the step", lambda: "ready" in fresh.ctl("logs", run, "a").stdout)
            fresh.kill(signal.SIGKILL)
            gate.touch()
            wait_for("the manifest", lambda: files_below(fresh.data, "manifest.json"))
            once.touch()
            fresh.faults = f"{point}=kill@{once}"
            fresh.launch()
            wait_for(f"{point} to fire", lambda: not once.exists())
            wait_for("the daemon to die", lambda: fresh.process is not None and fresh.process.poll() is not None)
            fresh.faults = ""
            fresh.start()
            fresh.ctl("wait-run", run)
            self.assertEqual([a["state"] for a in fresh.json("get-step", run, "a")["attempts"]], ["SUCCEEDED"])

    def by_retry(self, point: str, passes: int) -> None:
        """Of a run that failed; the next daemon goes on with its next generation."""
        fresh = Daemon()
        with contextlib.closing(fresh):
            once, ready = fresh.home / "once", fresh.home / "ready"
            once.touch()
            fresh.faults = f"{point}=kill@{once}"
            fresh.start()
            run = fresh.submit(f"name: p\nsteps:\n  - {{name: a, command: [test, -e, {ready}]}}\n")
            fresh.ctl("wait-run", run, code=1)
            ready.touch()
            asked = subprocess.Popen([str(BIN / "orchctl"), "retry-run", run], env=fresh.environment(),
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(f"{point} to fire", lambda: not once.exists())
            wait_for("the daemon to die", lambda: fresh.process is not None and fresh.process.poll() is not None)
            fresh.faults = ""
            fresh.start()
            asked.wait(60)
            fresh.ctl("wait-run", run)
            self.assertEqual(fresh.json("get-run", run)["generation"], 2)

    def by_a_large_log(self, point: str, passes: int) -> None:
        """Enough commits for a checkpoint."""
        # Its jobs outlive the daemon: what had begun when it died would be lost otherwise.
        fake = "orchestrators:\n  - {name: fake, flavor: fake, config: {survive: true}}\n"
        self.daemon.ctl("apply", "-f", self.daemon.file(fake, "f.yaml"), "--yes")
        once = self.order(point, 1)
        self.replace()
        name = f"fake-{self.rng.randrange(1 << 40)}"
        wide = {"name": "wide", "steps": [{"name": "s", "command": ["-"], "foreach": {"i": list(range(60_000))}}]}
        if not self.gone():  # of a large log it may have died in its start
            with contextlib.suppress(grpc.RpcError):  # it may die before it answers
                self.submit_plain(name, wide, "fake")
        wait_for(f"{point} to fire", lambda: not once.exists(), 60)
        wait_for("the daemon to die", self.gone)
        self.daemon.faults = ""
        self.replace()
        self.submit_plain(name, wide, "fake")
        self.daemon.ctl("wait-run", name)
        self.oracle.checked_to = self.oracle.watch.events[-1].sequence if self.oracle.watch.events else 0
        self.skip_events()

    def by_many_steps(self, point: str, passes: int) -> None:
        """Enough keys for the supervisor's journal to be cut."""
        once = self.order(point, 1)
        self.kill_supervisor()
        self.replace()
        name = f"many-{self.rng.randrange(1 << 40)}"
        self.submit_plain(name, {"name": "many", "steps": [
            {"name": "s", "command": ["/bin/true"], "foreach": {"i": list(range(5_000))}, "resources": {"cpu": 0.01},
             "retry": dags.RETRY_LOST}]})
        wait_for(f"{point} to fire", lambda: not once.exists(), 60)
        self.daemon.faults = ""
        self.daemon.ctl("wait-run", name)
        self.skip_events()
        self.replace()

    def by_a_large_step_log(self, point: str, passes: int) -> None:
        """It is compressed after the end."""
        once = self.order(point, 1)
        self.replace()
        name = f"loud-{self.rng.randrange(1 << 40)}"
        self.submit_plain(name, {"name": "loud", "steps": [
            {"name": "s", "command": ["/bin/sh", "-c", "yes 0123456789 | head -c 3000000"], "retry": dags.RETRY_LOST}]})
        wait_for(f"{point} to fire", lambda: not once.exists(), 60)
        wait_for("the daemon to die", self.gone)
        self.daemon.faults = ""
        self.replace()
        self.daemon.ctl("wait-run", name)
        self.assertEqual(len(self.daemon.ctl("logs", name, "s").stdout), 3_000_000)
        self.skip_events()

    def by_pruning(self, point: str, passes: int) -> None:
        """In a daemon of its own: what the oracle remembers must not go."""
        with contextlib.closing(Daemon()) as other:
            other.start()
            text = ("name: old\nsteps:\n  - {name: a, command: [sh, -c, 'echo x; echo y > \"$ORCH_OUTPUT_T\"'], "
                    "outputs: {t: {type: text}}, cache: {enabled: %s}}\n")
            for cached in ("true", "false"):
                self.assertEqual(other.run(text % cached)["a"]["state"], "SUCCEEDED")
            once = other.home / "once"
            once.touch()
            other.faults = f"{point}=kill@{once}"
            other.restart(signal.SIGKILL)
            everything = [f"--{kind}-max-age=1ms" for kind in ("cache", "artifacts", "runs", "logs", "events")]
            only = {"prune.runs_deleted": everything[2:3]}.get(point, everything[:2] + everything[3:])
            other.ctl("prune", *only, "--yes", "--timeout", "5s", code=None)
            wait_for(f"{point} to fire", lambda: not once.exists())
            other.faults = ""
            other.restart(signal.SIGKILL)
            other.ctl("prune", *everything, "--yes")
            other.ctl("prune", *everything, "--yes")  # what was pinned by what went then
            self.assertEqual(other.json("list-runs")["runs"], [])
            self.assertEqual(other.run(text % "true")["a"]["state"], "SUCCEEDED")

    def by_new_supervisor(self, point: str, passes: int) -> None:
        once = self.order(point, 1)
        self.replace()
        self.traffic.kinds, self.traffic.limit = MIX, 6
        self.traffic.on.set()
        wait_for("open runs", lambda: sum(bool(s.run_id) for s in self.oracle.open()) >= 2)
        self.kill_supervisor()
        self.ended_by_fault(point, once)

    def by_supervised_traffic(self, point: str, passes: int) -> None:
        """The supervisor gets its orders when it is started."""
        self.kill_both()
        self.by_traffic(point, passes)

    def by_upgrade(self, point: str, passes: int) -> None:
        """A daemon of another version starts the supervisor; the next one finds it with steps."""
        once = self.order(point, 1)
        self.kill_both()
        self.daemon.launch(ORCH_VERSION_AS="0.0.1/wire1")
        self.daemon.wait_serving()
        self.oracle.serving.set()
        self.traffic.kinds, self.traffic.limit = [dags.chain, dags.early, dags.cancelled], 5
        self.traffic.on.set()
        wait_for("open runs", lambda: sum(bool(s.run_id) for s in self.oracle.open()) >= 2)
        self.replace()
        self.ended_by_fault(point, once)

    def kill_both(self) -> None:
        """First the daemon: it would start another supervisor, which had no orders."""
        self.oracle.serving.clear()
        self.daemon.kill(signal.SIGKILL)
        self.kill_supervisor()
        wait_for("the supervisor to be gone", lambda: self.daemon.supervisor_pid() == 0)

    def kill_supervisor(self) -> None:
        self.oracle.supervisors_killed += 1
        supervisor = self.daemon.supervisor_pid()
        if supervisor:
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGKILL)

    def skip_events(self) -> None:
        """What was not the oracle's own traffic is only required to be without a gap, which the watch checks."""
        with Api(self.daemon) as api:
            last = api.call("AdminService.GetServerInfo", message("GetServerInfoRequest")).last_sequence
        wait_for("the watch to come to the end", lambda: self.oracle.watch.wrong or (
            self.oracle.watch.events and self.oracle.watch.events[-1].sequence >= last), 60)
        self.assertEqual(self.oracle.watch.wrong, "")
        self.oracle.checked_to = self.oracle.watch.events[-1].sequence
        self.oracle.watch.events.clear()

    def way(self, point: str) -> Callable[[str, int], None]:
        if point == "start.migrating":
            return self.by_first_start
        if point.startswith("secret."):
            return self.by_first_secret
        if point.startswith("start."):
            return self.by_restart
        if point.startswith(("delete.", "clean.")):
            return self.by_deletion
        if point.startswith("upload."):
            return self.by_delivery
        if point.startswith("left."):
            return self.by_what_was_left
        if point.startswith("home."):
            return self.by_store
        if point.startswith("retry."):
            return self.by_retry
        if point.startswith("stop."):
            return self.by_stop
        if point.startswith("checkpoint."):
            return self.by_a_large_log
        if point.startswith("prune."):
            return self.by_pruning
        if point == "logs.compressed":
            return self.by_a_large_step_log
        if point == "supervisor.journal.cut":
            return self.by_many_steps
        if point.startswith("supervisor.upgrade."):
            return self.by_upgrade
        if point.startswith(("supervisor.start.", "supervisor.journal.")):
            return self.by_new_supervisor
        if point.startswith("supervisor."):
            return self.by_supervised_traffic
        return self.by_traffic

    def test_every_point_of_both_programs(self) -> None:
        names = [p for p in points("orchd") if p.split(".")[0] not in ELSEWHERE] + points("orch-supervisor")
        self.assertGreater(len(names), 40)
        only = os.environ.get("ORCH_TEST_POINT")
        for seed in range(SEEDS):
            for point in names:
                if only and only not in point:
                    continue
                passes = 1 if point.startswith(("start.", "publish.", "resolve.", "fanout.", "hook.", "upload.ended", "upload.output")) else self.rng.randint(1, 4)
                try:
                    self.way(point)(point, passes)
                except BaseException:
                    print(f"at {point}, pass {passes}, seed {SEED}; in the daemon's log:\n{self.daemon.log()[-1500:]}", flush=True)
                    raise
                self.fired.append(point)
        totals = self.oracle.totals
        print(f"{len(set(self.fired))} of {len(names)} fault points fired, {len(self.fired)} times, over {totals.runs} runs, "
              f"{totals.steps} steps, {totals.attempts} attempts; seed {SEED}", flush=True)

    def test_points_of_other_platforms_are_met_by_their_own_suites(self) -> None:
        for kind, folder in ELSEWHERE.items():
            self.assertTrue([p for p in points("orchd") if p.split(".")[0] == kind], f"there is no point of {kind} any more")
            texts = "".join(path.read_text() for path in (ROOT / folder).glob("*.py"))
            self.assertIn(f'for point in (p for p in points("orchd") if p.startswith("{kind}."))', texts,
                          f"{folder} does not go through all of them")

    def test_they_are_inert_unless_asked_for(self) -> None:
        quiet = Daemon()
        with contextlib.closing(quiet):
            quiet.launch(ORCH_FAULTS="commit.after=kill,supervisor.spawn.spawned=kill")
            quiet.wait_serving()
            self.assertEqual(quiet.run("name: ok\nsteps:\n  - {name: a, command: ['true']}\n")["a"]["state"], "SUCCEEDED")

    def test_an_order_that_cannot_be_followed_is_refused(self) -> None:
        for orders in ("no.such.point=kill", "commit.after=dance", "commit.after", "commit.after:0=kill"):
            done = subprocess.run([str(BIN / "orchd"), "--fault-points", "--data-dir", str(self.daemon.home / "none")],
                                  env={**os.environ, "ORCH_FAULTS": orders}, capture_output=True, text=True, timeout=30)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("ORCH_FAULTS", done.stderr)


if __name__ == "__main__":
    unittest.main()
