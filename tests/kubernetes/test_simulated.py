"""Simulated nodes: pods end as their annotations say, and many Jobs at once are followed by one client, and by one daemon."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import unittest
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.lib.daemon import BIN, wait_for
from tests.lib.kubernetes import SCRIPTS, Cluster
from tests.lib.on_a_cluster import OnACluster
from tests.lib.s3 import Wire

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


class Audited(Cluster):
    """With an API server that notes what orchd's account lists and watches."""

    def __init__(self, launcher: Path | None = None, simulated: int = 0) -> None:
        super().__init__(launcher, simulated)
        self.audit = self.folder / "audit"
        policy = self.folder / "audit.yaml"
        policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
            {"level": "Metadata", "users": ["system:serviceaccount:orchd:orchd"], "verbs": ["list", "watch"]}, {"level": "None"}]}))
        self.environment["ORCH_KUBE_APISERVER"] = f"--audit-log-path={self.audit} --audit-policy-file={policy}"

    def asked(self, verb: str, orchestrator: str) -> Counter[str]:
        """How often all that this one has was listed, or watched, so far; the pages of a list are one."""
        stage = {"list": "ResponseComplete", "watch": "ResponseStarted"}[verb]
        lines = self.audit.read_text().rpartition("\n")[0].splitlines()
        return Counter(entry["objectRef"]["resource"] for entry in map(json.loads, lines) if entry["verb"] == verb and entry["stage"] == stage
                       and f"orchestrator%3D{orchestrator}" in entry["requestURI"]
                       and not any(word in entry["requestURI"] for word in ("continue=", "orchd.io%2Fkey%3D")))


class ManySteps(OnACluster):
    cluster: Audited
    platform = Audited
    simulated = 5

    def wired(self) -> Wire:
        """What is submitted from now on goes to an orchestrator that reaches the API server by this."""
        there = (self.cluster.folder / "there").read_text().strip()
        wire = Wire(f"{there}:6443")
        self.addCleanup(wire.close)
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"].update({"server": f"https://127.0.0.1:{wire.port}", "tls-server-name": there})
        file = self.folder / "wired"
        file.write_text(json.dumps(config))
        self.other(kubeconfig=str(file), logs_at_once=1)  # a simulated node's logs have no end
        return wire

    def peak_mib(self) -> int:
        """The most memory that the daemon has had since it was started."""
        assert self.daemon.process is not None
        return int(Path(f"/proc/{self.daemon.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) >> 10

    def states(self, run: str) -> Counter[str]:
        return Counter(self.daemon.json("get-run", run)["step_counts"])

    def test_what_is_there_is_listed_once_by_each_life_of_the_daemon(self) -> None:
        wire = self.wired()
        settings = {"node_selector": {"type": "simulated"}, "tolerations": [{"key": "simulated", "operator": "Exists"}]}
        ended, held = int(JOBS) // 2, int(JOBS) - int(JOBS) // 2
        run = self.submit(
            self.step(name="held", foreach={"i": list(range(held))}, settings={**settings, "annotations": {"simulated/hold": "true"}}),
            self.step(name="ended", foreach={"i": list(range(ended))}, settings={**settings, "annotations": {"simulated/exit-code": "3"}}),
            execution_mode="continue_on_failure")
        wait_for("some to end", lambda: self.states(run)["FAILED"] > ended // 3, 600, every=1)
        self.assertGreater(wire.cut(), 0)
        wait_for("all to be where they stay", lambda: (self.states(run)["RUNNING"], self.states(run)["FAILED"]) == (held, ended), 1200, every=1)
        self.assertEqual({step["reason"] for step in self.daemon.steps(run).values() if step["state"] == "FAILED"}, {"EXIT_CODE"})
        once = Counter(jobs=1, pods=1)
        self.assertEqual(self.cluster.asked("list", "other"), once)
        watches = self.cluster.asked("watch", "other")
        self.assertGreater(min(watches["jobs"], watches["pods"]), 1, "they were cut")
        first = self.peak_mib()

        self.daemon.restart(signal.SIGKILL)
        wait_for("both to be watched again", lambda: len(self.cluster.asked("watch", "other") - watches) == 2, 300, every=0.3)
        self.assertEqual(self.cluster.asked("list", "other"), once + once)
        self.assertGreater(wire.cut(), 0)
        self.daemon.ctl("cancel-run", run)
        wait_for("all to be over", lambda: self.states(run)["CANCELLED"] == held, 1200, every=1)
        wait_for("the namespace to be clean", lambda: not any(self.any(path) for path in ("apis/batch/v1/namespaces/orchd/jobs", "api/v1/namespaces/orchd/pods")), 1200, every=1)
        self.assertEqual(self.cluster.asked("list", "other"), once + once)
        second = self.peak_mib()
        print(f"{JOBS} steps: at most {first} MiB of the daemon, {second} after a restart", flush=True)
        self.assertLess(max(first, second), 143)  # 150 MB

    def any(self, path: str) -> bool:
        return bool(json.loads(self.cluster.kubectl("get", "--raw", f"/{path}?limit=1"))["items"])


del OnACluster

if __name__ == "__main__":
    unittest.main()
