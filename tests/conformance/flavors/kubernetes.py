"""Jobs of a real Kubernetes of one node; pods reach the daemon over TLS, and have nothing of it but an init container's launcher."""
from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, Callable

from tests.conformance.flavor import ASKED, KEPT, Does, Flavor
from tests.lib.certificates import Authority, flags
from tests.lib.daemon import BIN, Daemon, alive, wait_for
from tests.lib.kubernetes import IMAGE, Cluster

FOREIGN = "p-a-1-" + "q" * 20


class Kubernetes(Flavor):
    name = "kubernetes"
    lost_answer_point = "kubernetes.created"
    seconds = 180
    slow = 5.0
    alone = "kubernetes"
    image_needed = True
    jobs_survive = True
    platform = Cluster
    kind = "jobs"
    words = {"cpu": KEPT, "memory": KEPT, "disk": ASKED}

    def up(self) -> None:
        self.cluster = self.platform(launcher=BIN / "orch-launch")
        self.cluster.up()
        # The node says that it has GPUs, so that the scheduler counts them.
        self.cluster.kubectl("patch", "node", "n1", "--subresource=status", "--type=merge", "-p", '{"status": {"capacity": {"nvidia.com/gpu": "8"}}}')
        self.folder = Path(tempfile.mkdtemp(prefix="orchd-k8s-tls-"))
        authority = Authority(self.folder)
        with socket.create_server((self.cluster.here, 0)) as probe:
            port = probe.getsockname()[1]
        self.daemon_flags = [*flags(authority.sign("daemon", f"IP:{self.cluster.here},IP:127.0.0.1,DNS:localhost")),
                             "--http-listen", f"{self.cluster.here}:{port}"]
        self.daemon_ca = authority.certificate
        self.config = {"kubeconfig": str(self.cluster.kubeconfig), "image": IMAGE, "launcher_image": IMAGE, "pull": "never", "cpus": 16,
                       "memory": "64Gi", "gpus": 8, "custom": {"seat": 1}, "cpu_request_percent": 2,
                       "endpoint": f"https://{self.cluster.here}:{port}", "ca_file": str(authority.certificate)}

    def down(self) -> None:
        self.cluster.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart(self, daemon: Daemon) -> None:
        self.cluster.part("restart", "apiserver")
        self.cluster.ready()

    def objects(self, kind: str) -> list[dict[str, Any]]:
        return [o for o in self.cluster.list(kind) if o["metadata"].get("labels", {}).get("orchd.io/instance", "somebody-else") != "somebody-else"]

    def jobs(self, daemon: Daemon) -> list[str]:
        runs = {run["name"] for run in daemon.json("list-runs").get("runs", [])}  # the cluster is that of all tests
        return [f"{kind} {o['metadata']['name']}" for kind in (self.kind, "pods", "secrets") for o in self.objects(kind)
                if o["metadata"]["labels"]["orchd.io/run"] in runs]

    def limits(self, daemon: Daemon, step: str) -> dict[str, Any]:
        pod = next(p for p in self.objects("pods") if p["metadata"]["labels"]["orchd.io/step"] == step and p["status"]["phase"] == "Running")
        return self.limits_of(pod["spec"]["containers"][0])

    def limits_of(self, container: dict[str, Any]) -> dict[str, Any]:
        limits = container["resources"]["limits"]
        cpu = str(limits["cpu"])
        return {"cpu": int(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu), "memory": int(limits.get("memory", 0))}

    def take_away(self, daemon: Daemon) -> str:
        self.cluster.part("kill", "apiserver")
        return "the api server at"

    def bring_back(self, daemon: Daemon) -> None:
        self.cluster.part("start", "apiserver")
        self.cluster.ready()

    def refuse_for_now(self, daemon: Daemon) -> None:
        self.quota("count/jobs.batch=0")

    def quota(self, hard: str) -> None:
        self.cluster.kubectl("-n", "orchd", "create", "quota", "none", f"--hard={hard}")

        def counted() -> bool:
            return any(q["metadata"]["name"] == "none" and q.get("status", {}).get("hard") for q in self.cluster.list("resourcequotas"))
        wait_for("the quota to hold", counted, self.seconds, every=0.1)

    def refuse_no_more(self, daemon: Daemon, state: Callable[[], str]) -> None:
        run = daemon.json("list-runs")["runs"][0]["name"]
        try:
            wait_for("the word of it", lambda: "quota: none" in daemon.steps(run).get("a", {}).get("message", ""), self.seconds, every=0.2)
            assert state() in ("WAITING", "READY", "SUBMITTING"), state()
        finally:
            self.cluster.kubectl("-n", "orchd", "delete", "quota", "none")

    def refused_for_good(self, shared: Path) -> tuple[dict[str, Any], str]:
        step = self.step("a", Does(), shared)
        step["settings"][self.name]["pod_template"] = {"spec": {"dnsPolicy": "Sometimes"}}
        return step, 'Unsupported value: "Sometimes"'

    def wait_ended(self, daemon: Daemon, step: str) -> None:
        """Its command: the launcher waits for the daemon, to tell it."""
        def runs() -> bool:
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):
                        environment = (entry / "environ").read_bytes().split(b"\0")
                        if (f"ORCH_STEP={step}".encode() in environment and b"ORCH_ARTIFACTS=daemon" in environment
                                and f"ORCH_ENDPOINT={self.config['endpoint']}".encode() in environment and alive(int(entry.name))):
                            return True
            return False
        wait_for("its end", lambda: not runs(), self.seconds, every=0.1)

    def shown(self, daemon: Daemon) -> dict[str, bytes]:
        out = {kind: json.dumps(self.cluster.list(kind), ensure_ascii=False).encode() for kind in (self.kind, "pods", "events", "secrets")}
        for path in (self.cluster.folder / "podlogs").rglob("*"):  # what the node keeps of them
            if path.is_file():
                out[str(path)] = path.read_bytes()
        return out

    def make_foreign(self, daemon: Daemon) -> str:
        labels = {"app.kubernetes.io/managed-by": "orchd", "orchd.io/instance": "somebody-else", "orchd.io/orchestrator": "conformance",
                  "orchd.io/key": "q" * 20}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": FOREIGN, "labels": labels},
               "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": {
                   "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                   "containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "1000"]}]}}}}
        file = self.folder / "foreign.json"
        file.write_text(json.dumps(job))
        self.cluster.kubectl("-n", "orchd", "apply", "-f", str(file))
        return FOREIGN

    def has_foreign(self, name: str) -> bool:
        there = any(job["metadata"]["name"] == name and job["status"].get("active") == 1 for job in self.cluster.list("jobs"))
        self.cluster.kubectl("-n", "orchd", "delete", "job", name)
        return there

    def settings(self, shared: Path) -> dict[str, Any]:
        return {"volumes": [{"name": "shared", "hostPath": {"path": str(shared), "type": "Directory"}}],
                "volume_mounts": [{"name": "shared", "mountPath": str(shared)}]}


FLAVOR = Kubernetes()
