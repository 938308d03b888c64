"""Tekton's own controller and webhook run what they are given, with their own rights, and go without a trace."""
import json
import subprocess
import unittest
from typing import Any

from tests.lib.daemon import ROOT, wait_for
from tests.lib.kubernetes import IMAGE, Cluster

SCRIPTS = ROOT / "tests/platforms/tekton"


def step(script: str) -> list[dict[str, Any]]:
    return [{"name": "main", "image": IMAGE, "command": ["sh", "-c", script]}]


class Platform(unittest.TestCase):
    cluster: Cluster

    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster(simulated=1)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        done = subprocess.run([SCRIPTS / "up", cls.cluster.folder], capture_output=True, text=True, timeout=3000)
        if done.returncode == 3:
            raise unittest.SkipTest("no Tekton: " + done.stderr.strip()[-500:])
        if done.returncode != 0:
            raise AssertionError(f"Tekton does not come up: {done.stderr[-2000:]}")

    def kubectl(self, *words: str) -> str:
        """As the account that orchd has."""
        return self.cluster.kubectl("--kubeconfig", str(self.cluster.kubeconfig), "-n", "orchd", *words)

    def create(self, name: str, tasks: list[dict[str, Any]], annotations: "dict[str, str] | None" = None, **spec: Any) -> None:
        run = {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"name": name, "annotations": annotations or {}},
               "spec": {"pipelineSpec": {"tasks": tasks}, **spec}}
        file = self.cluster.folder / f"{name}.json"
        file.write_text(json.dumps(run))
        self.kubectl("create", "-f", str(file))

    def ended(self, name: str) -> dict[str, Any]:
        def condition() -> "dict[str, Any] | None":
            conditions = json.loads(self.kubectl("get", "pipelinerun", name, "-o", "json")).get("status", {}).get("conditions", [])
            return next((c for c in conditions if c["status"] != "Unknown"), None)

        out: dict[str, Any] = wait_for(f"{name} to end", condition, 300, every=0.5)
        return out

    def two_tasks(self) -> list[dict[str, Any]]:
        first = {"name": "first", "taskSpec": {"results": [{"name": "answer"}], "steps": step("printf 42 >$(results.answer.path)")}}
        second = {"name": "second", "params": [{"name": "x", "value": "$(tasks.first.results.answer)"}],
                  "taskSpec": {"params": [{"name": "x"}], "steps": step("echo got $(params.x)")}}
        return [first, second]

    def test_a_result_goes_from_one_task_to_the_next(self) -> None:
        self.create("two", self.two_tasks())
        condition = self.ended("two")
        self.assertEqual((condition["status"], condition["reason"]), ("True", "Succeeded"), condition)
        pods = json.loads(self.kubectl("get", "pods", "-l", "tekton.dev/pipelineRun=two,tekton.dev/pipelineTask=second", "-o", "json"))["items"]
        self.assertEqual([pod["spec"]["nodeName"] for pod in pods], ["n1"])
        self.assertEqual(self.kubectl("logs", pods[0]["metadata"]["name"], "-c", "step-main"), "got 42\n")
        run = json.loads(self.kubectl("get", "pipelinerun", "two", "-o", "json"))
        self.assertEqual({child["pipelineTaskName"] for child in run["status"]["childReferences"]}, {"first", "second"})

    def test_a_step_that_fails_says_how(self) -> None:
        self.create("bad", [{"name": "first", "taskSpec": {"steps": step("exit 3")}},
                            {"name": "second", "runAfter": ["first"], "taskSpec": {"steps": step("true")}}])
        self.assertEqual(self.ended("bad")["reason"], "Failed")
        tasks = json.loads(self.kubectl("get", "taskruns", "-l", "tekton.dev/pipelineRun=bad", "-o", "json"))["items"]
        self.assertEqual(len(tasks), 1, "the second was not begun")
        self.assertEqual(tasks[0]["status"]["steps"][0]["terminated"]["exitCode"], 3)

    def test_the_webhook_refuses_what_makes_no_sense(self) -> None:
        cycle = [{"name": a, "runAfter": [b], "taskSpec": {"steps": step("true")}} for a, b in (("a", "b"), ("b", "a"))]
        with self.assertRaisesRegex(AssertionError, "denied the request: .*cycle"):
            self.create("cycle", cycle)

    def test_cancelled(self) -> None:
        self.create("long", [{"name": "first", "taskSpec": {"steps": step("sleep 1000")}}])
        wait_for("its pod to run", lambda: "Running" in self.kubectl("get", "pods", "-l", "tekton.dev/pipelineRun=long", "-o", "jsonpath={..phase}"), 300, every=0.3)
        self.cluster.kubectl("-n", "orchd", "patch", "pipelinerun", "long", "--type", "merge", "-p", '{"spec": {"status": "Cancelled"}}')
        self.assertEqual(self.ended("long")["reason"], "Cancelled")

    def test_pods_may_be_simulated(self) -> None:
        answer = json.dumps([{"key": "answer", "value": "42", "type": 1}, {"key": "StartedAt", "value": "2026-01-01T00:00:00.000Z", "type": 3}])
        where = {"nodeSelector": {"type": "simulated"}, "tolerations": [{"key": "simulated", "operator": "Exists"}]}
        self.create("played", self.two_tasks(), {"simulated/message": answer}, taskRunTemplate={"podTemplate": where})
        condition = self.ended("played")
        self.assertEqual(condition["reason"], "Succeeded", condition)

    def test_it_has_only_the_rights_that_it_comes_with(self) -> None:
        for name in ("controller", "webhook"):
            own = ["--kubeconfig", str(self.cluster.folder / f"tekton-{name}.kubeconfig")]
            self.assertIn(f"system:serviceaccount:tekton-pipelines:tekton-pipelines-{name}", self.cluster.kubectl(*own, "auth", "whoami"))
            with self.assertRaisesRegex(AssertionError, "Forbidden"):
                self.cluster.kubectl(*own, "get", "clusterroles")

    def test_zz_nothing_of_it_is_left_in_the_cluster(self) -> None:
        cluster = self.cluster
        subprocess.run([SCRIPTS / "down", cluster.folder], check=True, timeout=300, capture_output=True)
        kinds = "customresourcedefinitions,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations"
        self.assertEqual([line for line in cluster.kubectl("get", kinds, "-o", "name").splitlines() if "tekton" in line], [])
        wait_for("its namespace to be gone", lambda: "tekton" not in cluster.kubectl("get", "namespaces", "-o", "name"), 300, every=0.5)
        self.assertNotIn("8443", cluster.part("in", "iptables-legacy", "-w", "-t", "nat", "-S"))
        self.assertNotIn("10.96.0.50", cluster.part("in", "ip", "-o", "addr"))
        # It can come again.
        subprocess.run([SCRIPTS / "up", cluster.folder], check=True, timeout=600, capture_output=True)
        self.create("again", self.two_tasks())
        self.assertEqual(self.ended("again")["reason"], "Succeeded")


if __name__ == "__main__":
    unittest.main()
