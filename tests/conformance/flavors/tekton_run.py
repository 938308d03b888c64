"""The same Tekton with `granularity=run`: a run is one PipelineRun, unless something in it is in the way."""
from __future__ import annotations

import json
from tests.conformance.flavor import ASKED, DAEMON, KEPT, STEPWISE
from tests.conformance.flavors.tekton import Tekton
from tests.lib.daemon import Daemon, wait_for
from tests.lib.kubernetes import IMAGE

FOREIGN = "p-" + "q" * 20 + "-1"


class TektonRuns(Tekton):
    granularity = "run"
    kind = "pipelineruns"
    lost_answer_point = "tekton.created"
    words = {"cpu": KEPT, "memory": KEPT, "disk": ASKED,
             **dict.fromkeys(("early_edges", "fan_out_at_run_time", "retries", "at_most_so_many_at_a_time", "steps_on_other_orchestrators", "priority"),
                             DAEMON + STEPWISE)}

    def up(self) -> None:
        super().up()
        self.config = {**self.config, "granularity": "run"}

    def jobs(self, daemon: Daemon) -> list[str]:
        runs = {run["name"] for run in daemon.json("list-runs").get("runs", [])}
        return [*super().jobs(daemon), *(f"taskruns {o['metadata']['name']}" for o in self.objects("taskruns") if o["metadata"]["labels"]["orchd.io/run"] in runs)]

    def refuse_for_now(self, daemon: Daemon) -> None:
        self.quota("count/pipelineruns.tekton.dev=0")

    def make_foreign(self, daemon: Daemon) -> str:
        labels = {"app.kubernetes.io/managed-by": "orchd", "orchd.io/instance": "somebody-else", "orchd.io/orchestrator": "conformance",
                  "orchd.io/run": "p", "orchd.io/run-id": "0192f0a1-0000-7000-8000-000000000001", "orchd.io/number": "1"}
        task = {"name": "a-0", "taskSpec": {"metadata": {"labels": {"orchd.io/task": "0"}},
                                            "steps": [{"name": "main", "image": IMAGE, "command": ["sleep", "1000"]}]}}
        run = {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"name": FOREIGN, "labels": labels}, "spec": {"pipelineSpec": {"tasks": [task]}}}
        file = self.folder / "foreign.json"
        file.write_text(json.dumps(run))
        self.cluster.kubectl("-n", "orchd", "apply", "-f", str(file))
        wait_for("it to run", lambda: self.runs(f"{FOREIGN}-a-0"), self.seconds)
        return FOREIGN

    def has_foreign(self, name: str) -> bool:
        there = self.runs(f"{name}-a-0") and any(o["metadata"]["name"] == name for o in self.cluster.list("pipelineruns"))
        self.cluster.kubectl("-n", "orchd", "delete", "pipelinerun", name)
        return there


FLAVOR = TektonRuns()
