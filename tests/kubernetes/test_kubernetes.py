"""The flavor on a real cluster: what the conformance suites do not ask of every platform. Faults of the API server, of rights, of others
who delete; reasons; two daemons in one namespace; the walk-through of docs/kubernetes.md."""
from __future__ import annotations

import base64
import json
import re
import signal
import unittest
from typing import Any

import yaml

from tests.crash.test_fault_points import points
from tests.lib.daemon import wait_for
from tests.lib.on_a_cluster import OnACluster


class WalkThrough(OnACluster):
    def test_register_run_watch_a_typo_cancel_and_clean_up(self) -> None:
        said = self.daemon.json("check-orchestrator", "k8s")
        self.assertTrue(said["good"], said)
        self.assertIn("v1.34", json.dumps(said))
        run = self.submit(self.step("echo out; echo err >&2; printf made > $ORCH_OUTPUT_X", outputs={"x": {}}))
        self.assertEqual(self.wait(run)["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout, "out\n")
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stderr").stdout, "err\n")
        run = self.submit(self.step(image="localhost/no-such-image:1", settings={}), name="typo")
        step = self.wait_said(run, "no-such-image")
        self.assertEqual((step["state"], step["reason"]), ("QUEUED", "IMAGE_PULL_FAILED"))
        self.assertIn("no-such-image", self.daemon.ctl("why", run, "a").stdout)
        self.daemon.ctl("cancel-run", run)
        self.assertEqual(self.wait(run, code=5)["state"], "CANCELLED")
        run = self.submit(self.step("trap 'echo stopping; exit 0' TERM; echo ready; while true; do sleep 0.1; done"), name="long")
        wait_for("its word", lambda: self.daemon.ctl("logs", run, "a").stdout == "ready\n", 180)
        self.daemon.ctl("cancel-run", run)
        self.assertEqual(self.wait(run, code=5)["state"], "CANCELLED")
        # The signal reaches its `sleep` too, of which the shell may have a word on stderr.
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout, "ready\nstopping\n")
        self.wait_clean()

    def test_a_secret_is_owned_by_its_job_and_the_token_in_no_specification(self) -> None:
        run = self.submit(self.step("while true; do sleep 0.1; done"))
        self.wait_state(run, "RUNNING")
        job, secret = self.ours("jobs")[0], self.ours("secrets")[0]
        self.assertEqual(job["metadata"]["name"], secret["metadata"]["name"])
        self.assertEqual([owner["uid"] for owner in secret["metadata"]["ownerReferences"]], [job["metadata"]["uid"]])
        token = base64.b64decode(secret["data"]["token"]).decode()
        self.assertNotIn(token, json.dumps(self.ours("jobs")) + json.dumps(self.ours("pods")) + json.dumps(self.cluster.list("events")))


    def test_a_plan_prints_what_the_api_server_gets(self) -> None:
        settings = {"labels": {"team": "a"}, "env": {"HOME": "/tmp"}, "node_selector": {"kubernetes.io/os": "linux"},
                    "pod_template": {"spec": {"hostAliases": [{"ip": "127.0.0.1", "hostnames": ["here"]}]}}}
        step = self.step("while true; do sleep 0.1; done", settings=settings, resources={"cpu": 0.25, "memory": "64Mi"})
        file = self.daemon.file(json.dumps({"name": "p", "steps": [step]}), "p.json")
        planned = [json.loads(o) for o in self.daemon.json("plan", file, "--orchestrator", "k8s", "--native")["steps"][0]["native"]]
        printed = self.daemon.ctl("plan", file, "--orchestrator", "k8s", "--native").stdout
        self.assertEqual(list(yaml.safe_load_all(printed)), planned)
        self.assertEqual([o["kind"] for o in planned], ["Job", "Secret"])
        self.assertEqual(planned[1]["stringData"], {"token": "(secret)"})
        manifests = self.folder / "printed.yaml"
        manifests.write_text(printed)
        self.cluster.kubectl("-n", "orchd", "create", "--dry-run=server", "--validate=strict", "-f", str(manifests))
        self.assertEqual(self.ours("jobs"), [])
        self.daemon.ctl("submit", file, "--orchestrator", "k8s", "--name", "plan")
        self.wait_state("plan", "RUNNING")
        job, secret = self.ours("jobs")[0], self.ours("secrets")[0]
        known = {"run-id": job["metadata"]["annotations"]["orchd.io/run-id"], "a" * 20: job["metadata"]["labels"]["orchd.io/key"]}
        self.gets(planned[0], job, known, "Job")
        del planned[1]["stringData"]
        self.gets(planned[1], secret, known, "Secret")
        here = self.daemon.ctl("plan", file, "--native", "--orchestrator", "local", code=None)
        self.assertIn("its flavor does not tell", here.stdout)


class Reasons(OnACluster):
    simulated = 1

    def test_pending_is_explained_in_the_schedulers_words(self) -> None:
        run = self.submit(self.step(settings={"node_selector": {"pool": "none"}}, timeout={"queue": "20s"}))
        step = self.wait_said(run, "no node takes it")
        self.assertEqual((step["state"], step["reason"]), ("QUEUED", "UNSCHEDULABLE"))
        self.assertIn("didn't match", step["message"])
        step = self.wait(run, code=1)
        self.assertEqual(step["reason"], "QUEUE_TIMEOUT")

    def test_a_quota_for_pods_is_told_by_events(self) -> None:
        self.cluster.kubectl("-n", "orchd", "create", "quota", "no-pods", "--hard=pods=0")
        wait_for("the quota to hold", lambda: any(q.get("status", {}).get("hard") for q in self.cluster.list("resourcequotas")), 120)
        run = self.submit(self.step())
        self.wait_said(run, "exceeded quota")
        self.cluster.kubectl("-n", "orchd", "delete", "quota", "no-pods")
        self.assertEqual(self.wait(run)["state"], "SUCCEEDED")

    def test_an_image_that_is_not_there(self) -> None:
        self.other(image_seconds=5)
        run = self.submit(self.step(image="localhost/none:1", retry={"platform_attempts": 1}))
        step = self.wait(run, code=1)
        self.assertEqual(step["reason"], "IMAGE_PULL_FAILED")
        self.assertIn("localhost/none:1", step["message"])
        self.wait_clean()

    def test_a_launcher_that_is_not_there(self) -> None:
        self.other(launcher_image="", launcher_path="/none")
        step = self.wait(self.submit(self.step(retry={"platform_attempts": 1})), code=1)
        self.assertEqual(step["reason"], "COMMAND_NOT_FOUND")
        self.assertIn("launcher_image", step["message"])

    def test_a_deadline_of_the_pod(self) -> None:
        run = self.submit(self.step("sleep 100", settings={"pod_template": {"spec": {"activeDeadlineSeconds": 3}}}))
        self.assertEqual(self.wait(run, code=1)["reason"], "RUN_TIMEOUT")

    def test_evicted(self) -> None:
        run = self.submit(self.step("head -c 20000000 /dev/zero > /data/x; sleep 200", settings={
            "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}], "volume_mounts": [{"name": "data", "mountPath": "/data"}]}))
        step = self.wait(run, code=1)
        self.assertEqual(step["reason"], "EVICTED")
        self.assertIn("EmptyDir", step["message"])

    def test_preempted(self) -> None:
        self.preempted()

    def test_its_node_is_lost(self) -> None:
        self.lost_with_its_node("k8s")

    def test_a_secret_that_it_refers_to_is_not_there(self) -> None:
        settings = {"env": {"K": {"secretKeyRef": {"name": "mine", "key": "k"}}}}
        run = self.submit(self.step("echo $K", settings=settings))
        self.assertEqual(self.wait_said(run, 'secret "mine" not found')["state"], "QUEUED")
        self.cluster.kubectl("-n", "orchd", "create", "secret", "generic", "mine", "--from-literal=k=late")
        self.addCleanup(self.cluster.kubectl, "-n", "orchd", "delete", "secret", "mine", "--ignore-not-found")
        self.assertEqual(self.wait(run)["attempt"], 1)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "late\n")
        self.cluster.kubectl("-n", "orchd", "delete", "secret", "mine")
        step = self.wait(self.submit(self.step(settings=settings, retry={"platform_attempts": 1})), code=1)
        self.assertEqual(step["reason"], "UNSCHEDULABLE", step)
        self.assertIn('secret "mine" not found', step["message"])
        self.wait_clean()

    def test_deleted_by_others(self) -> None:
        for kind, words in (("jobs", "its Job was deleted by somebody else"), ("pods", "its pod was deleted by somebody else")):
            with self.subTest(kind):
                run = self.submit(self.step("sleep 300"))
                self.wait_state(run, "RUNNING")
                name = self.ours(kind)[0]["metadata"]["name"]
                self.cluster.kubectl("-n", "orchd", "delete", kind, name, "--wait=false")
                step = self.wait(run, code=1)
                self.assertEqual((step["reason"], step["message"]), ("LOST", words))
                self.wait_clean()


class Faults(OnACluster):
    apiserver = "--request-timeout=10m"  # so long it may be too busy

    def test_the_api_server_is_killed_under_running_steps(self) -> None:
        run = self.submit(self.step("echo begun; sleep 8; echo done"))
        self.wait_state(run, "RUNNING")
        self.cluster.part("restart", "apiserver")
        self.assertEqual(self.wait(run)["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "begun\ndone\n")
        run = self.submit(self.step())
        self.assertEqual(self.wait(run)["state"], "SUCCEEDED")
        self.wait_clean()

    def test_a_cancel_while_nobody_deletes_pods_after_their_job(self) -> None:
        """It has the grace that is its, not a second and SIGKILL."""
        self.daemon.close()
        self.daemon = self.start("grace: 10s\n")
        run = self.submit(self.step("trap 'sleep 3; echo told; exit 0' TERM; echo begun; while :; do sleep 1; done"))
        wait_for("it to listen", lambda: "begun" in self.daemon.ctl("logs", run, "a").stdout, 60)
        self.cluster.part("kill", "controller-manager")
        try:
            self.daemon.ctl("cancel-run", run)
            step = self.wait(run, code=None)
            self.assertEqual((step["state"], step["reason"]), ("CANCELLED", "CANCEL_REQUESTED"))
            self.assertIn("told", self.daemon.ctl("logs", run, "a").stdout)
        finally:
            self.cluster.part("start", "controller-manager")
        self.wait_clean()

    def test_a_right_that_is_missing_is_named(self) -> None:
        for resource, verb, words in (("jobs", "create", "create jobs"), ("pods", "watch", "watch pods"), ("pods/log", "get", "get pods/log")):
            with self.subTest(words):
                role = json.loads(self.cluster.kubectl("-n", "orchd", "get", "role", "orchd", "-o", "json"))
                saved = json.dumps(role["rules"])
                for rule in role["rules"]:
                    if resource in rule["resources"]:
                        rule["verbs"].remove(verb)
                self.rules([rule for rule in role["rules"] if rule["verbs"]])
                try:
                    bad = [c for c in self.daemon.json("check-orchestrator", "k8s", code=8)["checks"] if not c.get("good")]
                    self.assertEqual(len(bad), 1, bad)
                    self.assertIn(words, bad[0]["text"])
                    if words == "create jobs":
                        step = self.wait(self.submit(self.step()), code=1)
                        self.assertIn('cannot create resource "jobs"', step["message"])
                finally:
                    self.rules(json.loads(saved))
                wait_for("all to be well", lambda: self.daemon.json("check-orchestrator", "k8s", code=None)["good"], 60)

    def test_where_it_may_not_watch_steps_wait_and_say_so(self) -> None:
        for resource in ("jobs", "pods"):
            with self.subTest(resource):
                before = self.submit(self.step("sleep 5; echo done"), name=f"before-{resource}")
                self.wait_state(before, "RUNNING")
                role = json.loads(self.cluster.kubectl("-n", "orchd", "get", "role", "orchd", "-o", "json"))
                saved = json.dumps(role["rules"])
                for rule in role["rules"]:
                    if resource in rule["resources"]:
                        rule["verbs"].remove("watch")
                self.rules(role["rules"])
                self.daemon.restart(signal.SIGKILL)  # a watch that is open goes on
                try:
                    bad = [c for c in self.daemon.json("check-orchestrator", "k8s", code=8)["checks"] if not c.get("good")]
                    self.assertIn(f"may not watch {resource}", bad[0]["text"])
                    after = self.submit(self.step("echo done"), name=f"after-{resource}")
                    said = f'cannot watch resource "{resource}"'
                    for run in (before, after):
                        wait_for(f"{run}'s word", lambda run=run: said in self.daemon.ctl("why", run, "a").stdout, 60)  # type: ignore[misc]
                    self.assertEqual(self.ours("jobs")[0]["metadata"]["labels"]["orchd.io/run"], before)
                    self.assertEqual(len(self.ours("jobs")), 1)
                finally:
                    self.rules(json.loads(saved))
                for run in (before, after):
                    step = self.wait(run)
                    self.assertEqual((step["state"], step["attempt"]), ("SUCCEEDED", 1))
                    self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "done\n")
                self.wait_clean()

    def test_a_secret_that_is_refused_takes_its_job_along(self) -> None:
        role = json.loads(self.cluster.kubectl("-n", "orchd", "get", "role", "orchd", "-o", "json"))
        self.rules([rule for rule in role["rules"] if "secrets" not in rule["resources"]])
        try:
            step = self.wait(self.submit(self.step()), code=1)
            self.assertEqual(step["reason"], "SUBMIT_REFUSED")
            self.assertIn('cannot create resource "secrets"', step["message"])
            self.wait_clean()
        finally:
            self.rules(role["rules"])
        held = len(self.cluster.list("secrets"))
        self.cluster.kubectl("-n", "orchd", "create", "quota", "no-secrets", f"--hard=secrets={held}")
        wait_for("the quota to hold", lambda: any(q.get("status", {}).get("hard") for q in self.cluster.list("resourcequotas")), 120)
        run = self.submit(self.step(), name="held")
        wait_for("its being refused for now", lambda: "exceeded quota" in self.daemon.ctl("why", run, "a").stdout, 120)
        self.cluster.kubectl("-n", "orchd", "delete", "quota", "no-secrets")
        step = self.wait(run)
        self.assertEqual((step["state"], step["attempt"]), ("SUCCEEDED", 1))
        self.wait_clean()

    def rules(self, rules: list[dict[str, Any]]) -> None:
        self.cluster.kubectl("-n", "orchd", "patch", "role", "orchd", "--type=merge", "-p", json.dumps({"rules": rules}))

    def test_a_token_that_does_not_do_any_more_is_renewed_in_its_file(self) -> None:
        self.cluster.kubectl("-n", "orchd", "create", "rolebinding", "passing", "--role=orchd", "--serviceaccount=orchd:passing")
        self.addCleanup(self.cluster.kubectl, "-n", "orchd", "delete", "rolebinding", "passing")
        file = self.folder / "renewed"

        def account() -> str:
            self.cluster.kubectl("-n", "orchd", "create", "serviceaccount", "passing")
            token = self.cluster.kubectl("-n", "orchd", "create", "token", "passing", "--duration=1h").strip()
            return re.sub(r"token: [^}]+", f"token: {token}", self.cluster.kubeconfig.read_text())

        file.write_text(account())
        self.other(kubeconfig=str(file))
        run = self.submit(self.step("sleep 15; echo end"))
        self.wait_state(run, "RUNNING")
        self.cluster.kubectl("-n", "orchd", "delete", "serviceaccount", "passing")  # its tokens are void
        self.addCleanup(self.cluster.kubectl, "-n", "orchd", "delete", "serviceaccount", "passing")
        renewed = account()
        self.cluster.part("restart", "apiserver")  # which has the streams end
        wait_for("the word of it", lambda: "renew what the kubeconfig has" in self.daemon.log(), 180)
        file.write_text(renewed)
        self.assertEqual(self.wait(run)["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "end\n")
        self.wait_clean()

    def test_an_api_server_that_is_too_busy_for_longer_than_a_request_is_repeated(self) -> None:
        before = self.submit(self.step("sleep 2; echo done"), name="before")
        self.wait_state(before, "RUNNING")
        with self.cluster.busy():
            at_first = self.cluster.refused()
            after = self.submit(self.step("echo done"), name="after")
            wait_for("all tries, twice", lambda: self.cluster.refused() >= at_first + 15, 120, every=0.5)
            self.assertEqual(self.daemon.steps(after)["a"]["state"], "SUBMITTING")
        for run in (before, after):
            step = self.wait(run)
            self.assertEqual((step["state"], step["attempt"]), ("SUCCEEDED", 1))
            self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "done\n")
        self.wait_clean()

    def test_an_object_that_is_too_big_is_refused(self) -> None:
        step = self.wait(self.submit(self.step(settings={"annotations": {"big": "x" * 300_000}})), code=1)
        self.assertEqual(step["reason"], "SUBMIT_REFUSED")
        self.assertIn("annotations", step["message"])

    def test_a_namespace_that_is_being_deleted(self) -> None:
        self.cluster.kubectl("create", "namespace", "going")
        self.cluster.kubectl("-n", "going", "create", "configmap", "kept")
        self.cluster.kubectl("-n", "going", "patch", "configmap", "kept", "-p", '{"metadata": {"finalizers": ["test/kept"]}}')
        self.cluster.kubectl("-n", "going", "create", "rolebinding", "orchd", "--clusterrole=admin", "--serviceaccount=orchd:orchd")
        self.cluster.kubectl("delete", "namespace", "going", "--wait=false")
        try:
            self.other(namespace="going")
            step = self.wait(self.submit(self.step()), code=1)
            self.assertEqual(step["reason"], "SUBMIT_REFUSED")
        finally:
            self.cluster.kubectl("-n", "going", "patch", "configmap", "kept", "-p", '{"metadata": {"finalizers": null}}')

    def test_two_daemons_in_one_namespace(self) -> None:
        other = self.start()
        runs = [self.submit(self.step("sleep 5")), self.submit(self.step("sleep 5"), daemon=other)]
        wait_for("both", lambda: len(self.ours()) == 2, 120)
        self.daemon.restart(signal.SIGKILL)
        other.restart(signal.SIGKILL)
        for daemon, run in zip((self.daemon, other), runs):
            daemon.ctl("wait-run", run, "--timeout", "300s", timeout=360)
            self.assertEqual((daemon.steps(run)["a"]["state"], daemon.steps(run)["a"]["attempt"]), ("SUCCEEDED", 1))
        self.wait_clean()

    def test_killed_at_every_point_there_is_one_job(self) -> None:
        for point in (p for p in points("orchd") if p.startswith("kubernetes.")):
            with self.subTest(point):
                self.killed_at(point, self.open_folder("marks"))


del OnACluster

if __name__ == "__main__":
    unittest.main()
