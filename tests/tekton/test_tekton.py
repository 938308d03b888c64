"""The flavor on Tekton's real controller: steps as TaskRuns, what becomes of them, and one of them for an attempt whatever is killed."""
from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import unittest
from pathlib import Path
from typing import Any

import yaml

from tests.crash.test_fault_points import points
from tests.docs.test_docs import blocks
from tests.lib.daemon import ROOT, wait_for
from tests.lib.kubernetes import IMAGE, SCRIPTS
from tests.lib.on_a_cluster import OnACluster
from tests.lib.tekton import TektonCluster


class OnTekton(OnACluster):
    flavor = "tekton"
    kinds = ("taskruns", "pods", "secrets")
    platform = TektonCluster


class WalkThrough(OnTekton):
    def test_register_run_watch_a_typo_cancel_and_clean_up(self) -> None:
        said = self.daemon.json("check-orchestrator", "k8s")
        self.assertTrue(said["good"], said)
        run = self.submit(self.step("echo out; echo err >&2; printf made > $ORCH_OUTPUT_X", outputs={"x": {}}))
        self.assertEqual(self.wait(run)["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout, "out\n")
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stderr").stdout, "err\n")
        run = self.submit(self.step(image="localhost/no-such-image:1", retry={"platform_attempts": 1}), name="typo")
        step = self.wait(run, code=1)
        self.assertEqual((step["state"], step["reason"]), ("FAILED", "IMAGE_PULL_FAILED"))
        self.assertIn("no-such-image", step["message"])
        self.assertIn("no-such-image", self.daemon.ctl("why", run, "a").stdout)
        run = self.submit(self.step("trap 'echo stopping; exit 0' TERM; echo ready; while true; do sleep 0.1; done"), name="long")
        wait_for("its word", lambda: self.daemon.ctl("logs", run, "a").stdout == "ready\n", 180)
        self.daemon.ctl("cancel-run", run)
        self.assertEqual(self.wait(run, code=5)["state"], "CANCELLED")
        self.assertRegex(self.daemon.ctl("logs", run, "a").stdout, r"^ready\n(Terminated\n)?stopping\n")
        self.wait_clean()

    def test_a_secret_is_owned_by_its_task_run_and_the_token_in_no_specification(self) -> None:
        self.other(dashboard="https://tekton.example.org/")
        run = self.submit(self.step("while true; do sleep 0.1; done"))
        self.wait_state(run, "RUNNING")
        task, secret = self.ours()[0], self.ours("secrets")[0]
        self.assertEqual(task["metadata"]["name"], secret["metadata"]["name"])
        self.assertEqual([owner["uid"] for owner in secret["metadata"]["ownerReferences"]], [task["metadata"]["uid"]])
        self.assertEqual((task["spec"]["timeout"], task["spec"].get("retries", 0)), ("0s", 0))
        token = base64.b64decode(secret["data"]["token"]).decode()
        self.assertNotIn(token, json.dumps(self.ours()) + json.dumps(self.ours("pods")) + json.dumps(self.cluster.list("events")))
        link = f"https://tekton.example.org/#/namespaces/orchd/taskruns/{task['metadata']['name']}"
        self.assertIn(link, self.daemon.ctl("get-step", run, "a", "-o", "json").stdout)

    def test_what_tekton_has_no_place_for_is_refused_at_submit(self) -> None:
        settings = {"pod_template": {"spec": {"hostPID": True}}, "env": {"X": "$(params.y)"}}
        said = self.daemon.submit(json.dumps({"name": "p", "steps": [self.step(settings=settings)]}), "--orchestrator", "k8s", code=8)
        self.assertIn("`spec.hostPID`: Tekton's pods cannot be given it", said)
        self.assertIn("has `$(params.`, which Tekton takes for its own", said)


class Reasons(OnTekton):
    simulated = 1

    def test_pending_is_explained_in_the_schedulers_words(self) -> None:
        run = self.submit(self.step(settings={"node_selector": {"pool": "none"}}, timeout={"queue": "20s"}))
        step = self.wait_said(run, "no node takes it")
        self.assertEqual((step["state"], step["reason"]), ("QUEUED", "UNSCHEDULABLE"))
        self.assertIn("didn't match", step["message"])
        self.assertEqual(self.wait(run, code=1)["reason"], "QUEUE_TIMEOUT")
        self.wait_clean()

    def test_a_quota_for_pods_is_told(self) -> None:
        self.cluster.kubectl("-n", "orchd", "create", "quota", "no-pods", "--hard=pods=0")
        wait_for("the quota to hold", lambda: any(q.get("status", {}).get("hard") for q in self.cluster.list("resourcequotas")), 120)
        run = self.submit(self.step())
        self.assertEqual(self.wait_said(run, "exceeded quota")["reason"], "UNSCHEDULABLE")
        self.daemon.ctl("cancel-run", run)
        self.assertEqual(self.wait(run, code=5)["state"], "CANCELLED")
        self.wait_clean()

    def test_out_of_memory_and_exit_codes(self) -> None:
        run = self.submit(self.step("x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done", resources={"memory": "64Mi"}))
        self.assertEqual(self.wait(run, code=1)["reason"], "OUT_OF_MEMORY")
        run = self.submit(self.step("exit 3"))
        step = self.wait(run, code=1)
        self.assertEqual((step["reason"], step["message"]), ("EXIT_CODE", "exit code 3"))

    def test_preempted(self) -> None:
        self.preempted()

    def test_its_node_is_lost(self) -> None:
        self.other(granularity="run")
        self.lost_with_its_node("k8s", "other")

    def test_a_secret_that_it_refers_to_is_not_there(self) -> None:
        """Tekton does not wait for one, so the daemon makes those of its own first."""
        step = self.wait(self.submit(self.step(settings={"env": {"K": {"secretKeyRef": {"name": "none", "key": "k"}}}}, retry={"platform_attempts": 1})), code=1)
        self.assertEqual(step["reason"], "UNSCHEDULABLE", step)
        self.assertIn("CreateContainerConfigError", step["message"])
        self.wait_clean()

    def test_a_launcher_that_is_not_there(self) -> None:
        self.other(launcher_image="", launcher_path="/none")
        step = self.wait(self.submit(self.step(retry={"platform_attempts": 1})), code=1)
        self.assertEqual(step["state"], "FAILED", step)

    def test_time_outs_are_the_daemons(self) -> None:
        step = self.wait(self.submit(self.step("sleep 100", timeout={"run": "2s"})), code=1)
        self.assertEqual(step["reason"], "RUN_TIMEOUT")

    def test_deleted_by_others(self) -> None:
        for kind, words in (("taskruns", "its TaskRun was deleted by somebody else"), ("pods", "its pod was deleted by somebody else")):
            with self.subTest(kind):
                run = self.submit(self.step("sleep 300"))
                self.wait_state(run, "RUNNING")
                name = self.ours(kind)[0]["metadata"]["name"]
                self.cluster.kubectl("-n", "orchd", "delete", kind, name, "--wait=false")
                step = self.wait(run, code=1)
                self.assertEqual((step["reason"], step["message"]), ("LOST", words))
                self.wait_clean()

    def test_a_task_run_that_somebody_else_cancels(self) -> None:
        run = self.submit(self.step("sleep 300"))
        self.wait_state(run, "RUNNING")
        name = self.ours()[0]["metadata"]["name"]
        self.cluster.kubectl("-n", "orchd", "patch", "taskrun", name, "--type=merge", "-p", '{"spec": {"status": "TaskRunCancelled"}}')
        step = self.wait(run, code=1)
        self.assertEqual(step["reason"], "LOST")
        self.assertIn("TaskRunCancelled", step["message"])
        self.wait_clean()


class Faults(OnTekton):
    def test_the_controller_is_killed_under_a_running_step(self) -> None:
        run = self.submit(self.step("echo begun; sleep 5; echo done"))
        self.wait_state(run, "RUNNING")
        self.cluster.part("restart", "tekton-controller")
        self.assertEqual(self.wait(run)["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "begun\ndone\n")
        self.wait_clean()

    def test_what_the_cluster_does_not_clean_up_is(self) -> None:
        """It has no garbage collector meanwhile."""
        self.other(granularity="run")
        self.cluster.part("kill", "controller-manager")
        try:
            for self.orchestrator in ("k8s", "other"):
                self.assertEqual(self.wait(self.submit(self.step()))["state"], "SUCCEEDED")
            self.kinds = ("pipelineruns", *self.kinds)
            wait_for("all to be gone", lambda: not [o for kind in self.kinds for o in self.cluster.list(kind) if "orchd.io/run" in o["metadata"].get("labels", {})], 300, every=1)
        finally:
            self.cluster.part("start", "controller-manager")

    def test_a_right_that_is_missing_is_named(self) -> None:
        # A new cluster answers 429 for a moment: "storage is (re)initializing".
        wait_for("all to be well", lambda: self.daemon.json("check-orchestrator", "k8s", code=None)["good"], 60)
        role = json.loads(self.cluster.kubectl("-n", "orchd", "get", "role", "orchd-tekton", "-o", "json"))
        saved = json.dumps(role["rules"])
        for rule in role["rules"]:
            rule["verbs"].remove("create")
        self.rules(role["rules"])
        try:
            bad = [c for c in self.daemon.json("check-orchestrator", "k8s", code=8)["checks"] if not c.get("good")]
            self.assertEqual(len(bad), 1, bad)
            self.assertIn("create taskruns", bad[0]["text"])
            self.assertIn("docs/tekton.md", bad[0]["fix"])
            step = self.wait(self.submit(self.step()), code=1)
            self.assertIn('cannot create resource "taskruns"', step["message"])
        finally:
            self.rules(json.loads(saved))
        wait_for("all to be well", lambda: self.daemon.json("check-orchestrator", "k8s", code=None)["good"], 60)

    def rules(self, rules: list[dict[str, Any]]) -> None:
        self.cluster.kubectl("-n", "orchd", "patch", "role", "orchd-tekton", "--type=merge", "-p", json.dumps({"rules": rules}))

    def test_killed_at_every_point_there_is_one_task_run(self) -> None:
        for point in (p for p in points("orchd") if p.startswith("kubernetes.")):
            with self.subTest(point):
                self.killed_at(point, self.open_folder("marks"))


class Accounts(unittest.TestCase):
    """What the tests' accounts may do is what the page asks for."""

    def test_they_have_the_rights_of_the_page(self) -> None:
        page = (ROOT / "docs/tekton.md").read_text()
        said = yaml.safe_load(blocks(ROOT / "docs/tekton.md", "yaml")[0])["rules"]
        roles = {o["metadata"]["name"]: o["rules"] for o in yaml.safe_load_all((ROOT / "tests/platforms/tekton/account.yaml").read_text()) if o["kind"] == "Role"}
        self.assertEqual(roles["orchd-steps"], said)
        whole = re.search(r"also needs `([^`]*)` on `pipelineruns`", page)
        assert whole
        runs = {"apiGroups": ["tekton.dev"], "resources": ["pipelineruns"], "verbs": whole[1].split(", ")}
        self.assertEqual(roles["orchd-tekton"], [said[0], runs])


class StepsAlone(OnTekton):
    """As an account that has no right on PipelineRuns."""

    def own(self, **more: Any) -> None:
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        config["users"][0]["user"]["token"] = self.cluster.kubectl("-n", "orchd", "create", "token", "orchd-steps", "--duration=24h").strip()
        self.other(kubeconfig=str(self.daemon.file(yaml.safe_dump(config), "steps.kubeconfig")), **more)

    def test_its_steps_run_and_it_is_never_away(self) -> None:
        self.own()
        said = self.daemon.json("check-orchestrator", "other")
        self.assertTrue(said["good"], said)
        for number in range(3):
            run = self.submit(self.step("echo done; sleep 2"), name=f"n{number}")
            self.assertEqual(self.wait(run)["state"], "SUCCEEDED")
        self.assertNotIn("orchestrator is away", self.daemon.log())
        self.wait_clean()

    def test_of_whole_runs_it_is_said_what_is_missing(self) -> None:
        self.own(granularity="run")
        wait_for("the word of it", lambda: "orchestrator is away" in self.daemon.log(), 60)
        bad = [c for c in self.daemon.json("check-orchestrator", "other", code=8)["checks"] if not c.get("good")]
        self.assertEqual(len(bad), 1, bad)
        self.assertIn("may not create pipelineruns, get pipelineruns, list pipelineruns, watch pipelineruns, delete pipelineruns", bad[0]["text"])


class InWholeRuns(OnTekton):
    kinds = ("pipelineruns", "taskruns", "pods", "secrets")

    def setUp(self) -> None:
        super().setUp()
        self.other(granularity="run")

    def marked(self, name: str, script: str = "true", **more: Any) -> dict[str, Any]:
        settings = {"volumes": [{"name": "m", "hostPath": {"path": str(self.marks)}}], "volume_mounts": [{"name": "m", "mountPath": "/m"}]}
        return self.step(f"echo x >>/m/{name}; {script}", name=name, settings=settings, **more)

    @property
    def marks(self) -> Path:
        return self.open_folder("marks")

    def runs(self) -> list[dict[str, Any]]:
        return [o for o in self.cluster.list("pipelineruns") if "orchd.io/run" in o["metadata"].get("labels", {})]

    def wait_clean(self) -> None:
        wait_for("the namespace to be clean", lambda: not any(
            "orchd.io/run" in o["metadata"].get("labels", {}) for kind in self.kinds for o in self.cluster.list(kind)), 180)

class Page(InWholeRuns):
    def test_the_commands_of_the_page_work_as_pasted(self) -> None:
        """With this cluster's images, in a namespace in which nothing of ours is left after them."""
        found = blocks(ROOT / "docs/tekton.md", "bash cluster")
        self.assertEqual(len(found), 3)
        tools = self.daemon.home / "tools"
        tools.mkdir()
        (tools / "kubectl").write_text(f'#!/bin/sh\nexec {SCRIPTS}/part {self.cluster.folder} kubectl -n orchd "$@"\n')
        (tools / "kubectl").chmod(0o755)
        environment = self.daemon.environment()
        environment["PATH"] = f"{tools}:{environment['PATH']}"

        def paste(block: str) -> str:
            for image in ("registry.example.org/orchd-launch:1", "python:3.11-slim"):
                block = block.replace(image, IMAGE)
            block = block.replace("--config granularity=run", f"--config granularity=run --config kubeconfig={self.cluster.kubeconfig}")
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=self.daemon.home, env=environment, text=True, capture_output=True, timeout=400)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            return done.stdout

        said = paste(found[0])
        self.assertIn("its orchestrator would have it as one run of its own", said)
        self.assertTrue(said.endswith("HELLO FROM A POD\n"), said)
        self.wait_clean()
        said = paste(found[1])
        self.assertIn("localhost/no-such-image:1", said)
        self.assertIn("IMAGE_PULL_FAILED", said)
        self.wait_clean()
        said = paste(found[2])
        for word in ("pipelinerun.tekton.dev/long-1-", "taskrun.tekton.dev/long-1-", "pod/long-1-", "secret/long-1-", "told to stop"):
            self.assertIn(word, said)
        self.wait_clean()


class WholeRuns(InWholeRuns):
    """A run as one PipelineRun, whose tasks hold launchers that ask the daemon for their steps."""

    def diamond(self, middle: str = "true") -> list[dict[str, Any]]:
        out = {"outputs": {"x": {}}}
        return [self.marked("a", "echo made >$ORCH_OUTPUT_X", **out),
                self.marked("b", f"cat $ORCH_INPUT_I >$ORCH_OUTPUT_X; {middle}", inputs={"i": "a.x"}, **out),
                self.marked("c", "cat $ORCH_INPUT_I >$ORCH_OUTPUT_X", inputs={"i": "a.x"}, **out),
                self.marked("d", "cat $ORCH_INPUT_L $ORCH_INPUT_R", inputs={"l": "b.x", "r": "c.x"})]

    def ran_once(self, run: str) -> None:
        self.assertEqual({name: (s["state"], s["attempt"]) for name, s in self.daemon.steps(run).items()}, dict.fromkeys("abcd", ("SUCCEEDED", 1)))
        self.assertEqual({name: (self.marks / name).read_text() for name in "abcd"}, dict.fromkeys("abcd", "x\n"))
        self.assertEqual(self.daemon.ctl("logs", run, "d").stdout, "made\nmade\n")
        self.wait_clean()

    def test_a_diamond_is_one_pipeline_run(self) -> None:
        run = self.submit(*self.diamond("until [ -f /m/go ]; do sleep 0.1; done"))
        wait_for("b to run", (self.marks / "b").exists, 180)
        [native] = self.runs()
        self.assertEqual(sorted(len(task.get("runAfter", [])) for task in native["spec"]["pipelineSpec"]["tasks"]), [0, 1, 1, 2])
        self.assertIn(self.daemon.json("get-step", run, "b")["attempts"][0]["external_id"], [pod["metadata"]["name"] for pod in self.cluster.list("pods")])
        (self.marks / "go").touch()
        self.wait(run)
        self.ran_once(run)

    def test_the_daemon_is_killed_in_the_middle(self) -> None:
        run = self.submit(*self.diamond("until [ -f /m/go ]; do sleep 0.1; done"))
        wait_for("b to run", (self.marks / "b").exists, 180)
        self.daemon.restart(signal.SIGKILL)
        (self.marks / "go").touch()
        self.wait(run)
        self.ran_once(run)

    def test_killed_at_every_point_each_step_runs_once(self) -> None:
        for point in (p for p in points("orchd") if p.startswith("tekton.")):
            with self.subTest(point):
                for mark in self.marks.iterdir():
                    mark.unlink()
                file = self.daemon.file(json.dumps({"name": "p", "steps": self.diamond()}), "p.json")
                once = self.daemon.home / "once"
                once.touch()
                self.daemon.stop()
                self.daemon.faults = f"{point}=kill@{once}"
                self.daemon.start()
                name = point.replace(".", "-")
                self.daemon.ctl("submit", file, "--orchestrator", "other", "--name", name, code=None)
                wait_for("the fault", lambda: not once.exists(), 120)  # noqa: B023
                assert self.daemon.process is not None
                self.daemon.process.wait(30)
                self.daemon.faults = ""
                self.daemon.start()
                self.wait(name)
                self.ran_once(name)

    def test_a_plan_says_which_it_would_be_and_so_it_is(self) -> None:
        again = {"max_attempts": 2}
        alone = {"name": "p", "execution_mode": "fail_fast", "steps": [self.marked("a", retry=again)]}
        for orchestrator, pipeline, unit, words in (
                ("other", alone, "run", "its orchestrator would have it as one run of its own"),
                ("other", {**alone, "execution_mode": "continue_on_failure"}, "step", "step `a` may be tried again in a run that goes on after a failure"),
                ("other", {**alone, "max_parallel": 1}, "step", "max_parallel is for the daemon to keep"),
                ("k8s", alone, "step", "")):
            with self.subTest(orchestrator, mode=pipeline["execution_mode"], unit=unit):
                file = self.daemon.file(json.dumps(pipeline), "plan.json")
                plan = self.daemon.json("plan", file, "--orchestrator", orchestrator)
                self.assertEqual((plan["unit"], [words in why for why in plan.get("why_step_by_step", [])]),
                                 (unit, [True] if unit == "step" and words else []))
                shown = self.daemon.ctl("plan", file, "--orchestrator", orchestrator).stdout
                self.assertIn(words, shown)
                self.assertEqual("one run of its" in shown, bool(words), shown)
                (self.marks / "a").unlink(missing_ok=True)
                (self.marks / "go").unlink(missing_ok=True)
                pipeline["steps"] = [self.marked("a", "until [ -f /m/go ]; do sleep 0.1; done", retry=again)]
                run = self.daemon.submit(json.dumps(pipeline), "--orchestrator", orchestrator)
                wait_for("a to run", (self.marks / "a").exists, 180)
                self.assertEqual(len(self.runs()), 1 if unit == "run" else 0)
                (self.marks / "go").touch()
                self.wait(run)
                self.wait_clean()

    def test_a_plan_prints_what_the_api_server_gets(self) -> None:
        steps = self.diamond("until [ -f /m/go ]; do sleep 0.1; done")
        steps[1]["resources"] = {"cpu": 0.25, "memory": "64Mi"}
        file = self.daemon.file(json.dumps({"name": "p", "steps": steps}), "p.json")
        plan = self.daemon.json("plan", file, "--orchestrator", "other", "--native")
        planned = [json.loads(o) for o in plan["native"]]
        self.assertEqual([o["kind"] for o in planned], ["Secret", "PipelineRun"])
        self.assertEqual([step for step in plan["steps"] if step.get("native")], [])
        printed = self.daemon.ctl("plan", file, "--orchestrator", "other", "--native").stdout
        self.assertEqual(list(yaml.safe_load_all(printed)), planned)
        self.assertEqual(set(planned[0]["stringData"].values()), {"(secret)"})
        manifests = self.folder / "printed.yaml"
        manifests.write_text(printed)
        self.cluster.kubectl("-n", "orchd", "create", "--dry-run=server", "--validate=strict", "-f", str(manifests))
        self.assertEqual(self.runs(), [])
        self.daemon.ctl("submit", file, "--orchestrator", "other", "--name", "plan")
        wait_for("b to run", (self.marks / "b").exists, 180)
        [run] = self.runs()
        [secret] = [o for o in self.cluster.list("secrets") if o["metadata"]["name"] == run["metadata"]["name"]]
        known = {"run-id": run["metadata"]["annotations"]["orchd.io/run-id"], "a" * 20: run["metadata"]["name"].split("-")[-2]}
        self.gets(planned[1], run, known, "PipelineRun")
        self.assertEqual(set(planned[0].pop("stringData")), set(secret["data"]))
        self.gets(planned[0], secret, known, "Secret")
        (self.marks / "go").touch()
        self.wait("plan")
        again = self.daemon.json("plan", file, "--orchestrator", "other", "--native")
        self.assertEqual(again["native"], plan["native"])

    def test_a_cancel_reaches_what_runs_and_what_waits(self) -> None:
        run = self.submit(*self.diamond("while true; do sleep 0.1; done"))
        wait_for("b to run", (self.marks / "b").exists, 180)
        self.daemon.ctl("cancel-run", run)
        self.wait(run, code=5)
        self.assertEqual({self.daemon.steps(run)[n]["state"] for n in "bd"}, {"CANCELLED"})
        self.assertFalse((self.marks / "d").exists())
        self.wait_clean()

    def test_what_is_left_of_a_run_goes_into_another_one_when_the_first_is_deleted(self) -> None:
        again = {"max_attempts": 2, "backoff": {"initial": "10ms"}}
        run = self.submit(self.marked("a", "until [ -f /m/go ]; do sleep 0.1; done", retry=again), self.marked("b", after=["a"]),
                          execution_mode="fail_fast")
        wait_for("a to run", (self.marks / "a").exists, 180)
        [first] = self.runs()
        self.cluster.kubectl("-n", "orchd", "delete", "pipelinerun", first["metadata"]["name"], "--wait=false")
        wait_for("another attempt", lambda: (self.marks / "a").read_text() == "x\nx\n", 180)
        self.assertTrue([r for r in self.runs() if r["metadata"]["name"].endswith("-2")])
        (self.marks / "go").touch()
        self.assertEqual(self.wait(run)["attempt"], 2)
        self.assertEqual((self.marks / "b").read_text(), "x\n")
        self.wait_clean()

    def test_a_run_that_is_retried_has_what_is_left_of_it(self) -> None:
        run = self.submit(self.marked("a"), self.marked("b", "[ -f /m/go ]", after=["a"]), self.marked("c", after=["b"]))
        self.wait(run, code=1)
        self.wait_clean()
        (self.marks / "go").touch()
        self.daemon.ctl("retry-run", run)
        self.wait(run)
        self.assertEqual({name: (self.marks / name).read_text() for name in "abc"}, {"a": "x\n", "b": "x\nx\n", "c": "x\n"})
        self.wait_clean()

    def test_a_step_that_fails_stops_what_needs_it(self) -> None:
        run = self.submit(*self.diamond("exit 3"))
        self.wait(run, code=1)
        steps = self.daemon.steps(run)
        self.assertEqual((steps["b"]["state"], steps["b"]["reason"], steps["c"]["state"]), ("FAILED", "EXIT_CODE", "SUCCEEDED"))
        self.assertEqual(steps["d"]["state"], "SKIPPED")
        self.assertFalse((self.marks / "d").exists())
        self.wait_clean()


class ReasonsInWholeRuns(InWholeRuns):
    """What others do to a step's pod is told as where each step is a TaskRun, though its launcher has its word first."""

    def delete(self, kind: str) -> None:
        [name] = [o["metadata"]["name"] for o in self.cluster.list(kind) if "orchd.io/run" in o["metadata"].get("labels", {})]
        self.cluster.kubectl("-n", "orchd", "delete", kind, name, "--wait=false")

    def test_deleted_by_others(self) -> None:
        for kind, words in (("pipelineruns", "its PipelineRun was deleted by somebody else"), ("taskruns", "its TaskRun was deleted by somebody else"),
                            ("pods", "its pod was deleted by somebody else")):
            with self.subTest(kind):
                run = self.submit(self.step("sleep 300"))
                self.wait_state(run, "RUNNING")
                self.delete(kind)
                step = self.wait(run, code=1)
                self.assertEqual((step["reason"], step["message"][:len(words)]), ("LOST", words))
                self.wait_clean()

    def test_what_is_lost_is_tried_again_where_that_is_asked_for(self) -> None:
        again = {"max_attempts": 2, "on": ["lost"], "backoff": {"initial": "10ms"}}
        run = self.submit(self.marked("a", "[ $ORCH_ATTEMPT = 2 ] || sleep 300", retry=again), execution_mode="fail_fast")
        wait_for("a to run", (self.marks / "a").exists, 180)
        self.delete("pods")
        self.assertEqual(self.wait(run)["attempt"], 2)
        run = self.submit(self.marked("a", "exit 3", retry=again), execution_mode="fail_fast")
        self.assertEqual((self.wait(run, code=1)["attempt"], self.daemon.steps(run)["a"]["reason"]), (1, "EXIT_CODE"))
        self.wait_clean()

    def test_a_task_run_or_a_pipeline_run_that_somebody_else_cancels(self) -> None:
        for kind, status in (("taskruns", "TaskRunCancelled"), ("pipelineruns", "Cancelled")):
            with self.subTest(kind):
                run = self.submit(self.step("sleep 300"))
                self.wait_state(run, "RUNNING")
                [name] = [o["metadata"]["name"] for o in self.cluster.list(kind) if "orchd.io/run" in o["metadata"].get("labels", {})]
                self.cluster.kubectl("-n", "orchd", "patch", kind, name, "--type=merge", "-p", json.dumps({"spec": {"status": status}}))
                step = self.wait(run, code=1)
                self.assertEqual(step["reason"], "LOST", step)
                self.assertIn("TaskRunCancelled", step["message"])
                self.wait_clean()

    def test_evicted(self) -> None:
        run = self.submit(self.step("sleep 300"))
        self.wait_state(run, "RUNNING")
        [name] = [o["metadata"]["name"] for o in self.cluster.list("pods") if "orchd.io/run" in o["metadata"].get("labels", {})]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "orchd"}}
        self.cluster.kubectl("create", "--raw", f"/api/v1/namespaces/orchd/pods/{name}/eviction", "-f", str(self.daemon.file(json.dumps(eviction), "e.json")))
        step = self.wait(run, code=1)
        self.assertEqual(step["reason"], "EVICTED", step)
        run = self.submit(self.step("head -c 20000000 /dev/zero > /data/x; sleep 200", settings={
            "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}], "volume_mounts": [{"name": "data", "mountPath": "/data"}]}))
        step = self.wait(run, code=1)
        self.assertEqual(step["reason"], "EVICTED", step)
        self.assertIn("EmptyDir", step["message"])
        self.wait_clean()

    def test_preempted(self) -> None:
        self.preempted(granularity="run")

    def test_out_of_memory_exit_codes_signals_and_a_log_that_is_too_long(self) -> None:
        run = self.submit(self.step("x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done", resources={"memory": "64Mi"}))
        self.assertEqual(self.wait(run, code=1)["reason"], "OUT_OF_MEMORY")
        # Of its child's want of memory a step says what it likes.
        run = self.submit(self.step("sh -c 'x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done'; exit 4", resources={"memory": "64Mi"}))
        self.assertEqual(self.wait(run, code=1)["reason"], "OUT_OF_MEMORY")
        step = self.wait(self.submit(self.step("exit 3")), code=1)
        self.assertEqual((step["reason"], step["message"]), ("EXIT_CODE", "exit code 3"))
        step = self.wait(self.submit(self.step("kill -SEGV $$$$")), code=1)
        self.assertEqual((step["reason"], step["signal"]), ("SIGNALED", 11))

    def test_a_pod_that_is_deleted_while_no_daemon_looks(self) -> None:
        run = self.submit(self.step("sleep 300"))
        self.wait_state(run, "RUNNING")
        self.daemon.stop()
        self.delete("pods")
        wait_for("the pod to be gone", lambda: not self.ours("pods"), 180)
        self.daemon.start()
        self.assertEqual(self.wait(run, code=1)["reason"], "LOST")
        self.wait_clean()

    def test_the_api_server_is_away_when_a_step_fails(self) -> None:
        self.daemon.stop()
        self.daemon.config += "limits: {place_patience_seconds: 1}\n"
        self.daemon.start()
        run = self.submit(self.marked("a", "until [ -f /m/go ]; do sleep 0.1; done; exit 3"))
        wait_for("a to run", (self.marks / "a").exists, 180)
        self.cluster.part("kill", "apiserver")
        try:
            (self.marks / "go").touch()
            self.assertEqual(self.wait(run, code=1)["reason"], "EXIT_CODE")
        finally:
            self.cluster.part("start", "apiserver")
            self.cluster.ready()
        self.wait_clean()  # also of what the cluster's own garbage collector has missed, after its server was killed


del OnACluster, OnTekton, InWholeRuns

if __name__ == "__main__":
    unittest.main()
