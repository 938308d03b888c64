"""TaskRuns of Tekton's real controller, a step each; pods reach the daemon over TLS, and have nothing of it but what a first step brings."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conformance.flavor import Does
from tests.conformance.flavors.kubernetes import FOREIGN, Kubernetes
from tests.lib.daemon import Daemon, wait_for
from tests.lib.kubernetes import IMAGE
from tests.lib.tekton import TektonCluster


class Tekton(Kubernetes):
    name = "tekton"
    platform = TektonCluster
    kind = "taskruns"
    seconds = 240

    def limits(self, daemon: Daemon, step: str) -> dict[str, Any]:
        # It may run for a moment before its node has said so.
        pod = next(p for p in self.objects("pods")
                   if p["metadata"]["labels"]["orchd.io/step"] == step and p["status"]["phase"] in ("Pending", "Running"))
        return self.limits_of(next(c for c in pod["spec"]["containers"] if c["name"] == "step-main"))

    def refuse_for_now(self, daemon: Daemon) -> None:
        self.quota("count/taskruns.tekton.dev=0")

    def refused_for_good(self, shared: Path) -> tuple[dict[str, Any], str]:
        step = self.step("a", Does(), shared)
        settings = step["settings"]["tekton"]
        settings["volume_mounts"] = [*settings["volume_mounts"], {"name": "shared", "mountPath": "/tekton/mine"}]
        return step, "denied the request"

    def make_foreign(self, daemon: Daemon) -> str:
        labels = {"app.kubernetes.io/managed-by": "orchd", "orchd.io/instance": "somebody-else", "orchd.io/orchestrator": "conformance",
                  "orchd.io/key": "q" * 20}
        task = {"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": {"name": FOREIGN, "labels": labels},
                "spec": {"taskSpec": {"steps": [{"name": "main", "image": IMAGE, "command": ["sleep", "1000"]}]}}}
        file = self.folder / "foreign.json"
        file.write_text(json.dumps(task))
        self.cluster.kubectl("-n", "orchd", "apply", "-f", str(file))
        wait_for("it to run", lambda: self.runs(FOREIGN), self.seconds)
        return FOREIGN

    def runs(self, name: str) -> bool:
        return any(t["metadata"]["name"] == name and t.get("status", {}).get("conditions", [{}])[0].get("reason") == "Running" for t in self.cluster.list("taskruns"))

    def has_foreign(self, name: str) -> bool:
        there = self.runs(name)
        self.cluster.kubectl("-n", "orchd", "delete", "taskrun", name)
        return there


FLAVOR = Tekton()
