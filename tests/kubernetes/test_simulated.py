"""Simulated nodes: pods end as their annotations say, and many Jobs at once are followed by one client."""
import json
import os
import subprocess
import unittest
from typing import Any

from tests.lib.daemon import BIN, wait_for
from tests.lib.kubernetes import SCRIPTS, Cluster

JOBS = os.environ.get("ORCH_TEST_JOBS", "300")


class Simulated(unittest.TestCase):
    cluster: Cluster

    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster(simulated=5)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()

    def run_job(self, name: str, **said: str) -> None:
        annotations = {"simulated/" + key.replace("_", "-"): value for key, value in said.items()}
        pod = {"restartPolicy": "Never", "nodeSelector": {"type": "simulated"}, "tolerations": [{"key": "simulated", "operator": "Exists"}],
               "containers": [{"name": "main", "image": "example.org/any:1"}]}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "orchd"},
               "spec": {"backoffLimit": 0, "template": {"metadata": {"annotations": annotations}, "spec": pod}}}
        file = self.cluster.folder / f"{name}.json"
        file.write_text(json.dumps(job))
        self.cluster.kubectl("create", "-f", str(file))
        self.addCleanup(self.cluster.kubectl, "delete", "-f", str(file))

    def pod(self, name: str, phase: str) -> dict[str, Any]:
        def found() -> "dict[str, Any] | None":
            pods = [p for p in self.cluster.list("pods") if p["metadata"]["labels"].get("job-name") == name]
            return pods[0] if pods and pods[0]["status"]["phase"] == phase else None

        found_pod: dict[str, Any] = wait_for(f"the pod of {name} to be {phase}", found, 300, every=0.3)
        return found_pod

    def test_a_pod_ends_as_it_is_told(self) -> None:
        self.run_job("good")
        self.run_job("bad", exit_code="137", reason="OOMKilled", message="no memory left", duration="1500ms")
        self.run_job("evicted", exit_code="1", pod_reason="Evicted", message="the node was low on memory")
        self.run_job("held", hold="true")
        good = self.pod("good", "Succeeded")
        self.assertRegex(good["spec"]["nodeName"], r"^s[1-5]$")
        self.assertIn("a simulated container", self.cluster.kubectl("-n", "orchd", "logs", good["metadata"]["name"]))
        ended = self.pod("bad", "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]
        self.assertEqual((ended["exitCode"], ended["reason"], ended["message"]), (137, "OOMKilled", "no memory left"))
        self.assertGreater(ended["finishedAt"], ended["startedAt"])
        evicted = self.pod("evicted", "Failed")["status"]
        self.assertEqual((evicted["reason"], evicted["message"]), ("Evicted", "the node was low on memory"))
        self.pod("held", "Running")

    def test_many_jobs_at_once(self) -> None:
        environment = dict(os.environ, ORCH_TEST_KUBECONFIG=str(self.cluster.kubeconfig), ORCH_TEST_SIMULATED=JOBS,
                           ORCH_TEST_PART=f"{SCRIPTS}/part {self.cluster.folder}")
        done = subprocess.run([BIN / "kubernetes_test", "--gtest_filter=LiveScaleTest.*"], env=environment, capture_output=True, text=True, timeout=2400)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-1000:])
        self.assertNotIn("SKIPPED", done.stdout)
        print("\n".join(line for line in done.stdout.splitlines() if "jobs: " in line or "accepted" in line))


if __name__ == "__main__":
    unittest.main()
