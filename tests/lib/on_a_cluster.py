"""Tests on a real cluster: a daemon, whose pods reach it over TLS, with an orchestrator `k8s` there."""
from __future__ import annotations

import json
import shutil
import socket
import tempfile
import unittest
from pathlib import Path
from typing import Any

from tests.lib.certificates import Authority, flags
from tests.lib.daemon import BIN, Daemon, wait_for
from tests.lib.kubernetes import IMAGE, Cluster

LABEL = "orchd.io/step"


class OnACluster(unittest.TestCase):
    cluster: Cluster
    flavor = "kubernetes"
    kinds = ("jobs", "pods", "secrets")  # what it makes
    platform = Cluster
    simulated = 0  # nodes beside the real one
    apiserver = ""  # words for it

    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = cls.platform(BIN / "orch-launch", cls.simulated)
        cls.cluster.environment.setdefault("ORCH_KUBE_APISERVER", cls.apiserver)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.folder = Path(tempfile.mkdtemp(prefix="orchd-k8s-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        authority = Authority(cls.folder)
        cls.ca = authority.certificate
        cls.pair = authority.sign("daemon", f"IP:{cls.cluster.here}")

    def setUp(self) -> None:
        self.orchestrator = "k8s"
        self.daemon = self.start()
        self.addCleanup(self.nothing_is_left)

    def start(self, config: str = "grace: 2s\n", **more: Any) -> Daemon:
        with socket.create_server((self.cluster.here, 0)) as probe:
            address = f"{self.cluster.here}:{probe.getsockname()[1]}"
        daemon = Daemon(config, flags=[*flags(self.pair), "--http-listen", address, "--step-endpoint", f"https://{address}",
                                       "--step-ca", str(self.ca)], ca=self.ca)
        self.addCleanup(daemon.close)
        daemon.start()
        self.register(daemon, **more)
        return daemon

    def register(self, daemon: Daemon, name: str = "k8s", code: int = 0, **more: Any) -> str:
        config = {"kubeconfig": str(self.cluster.kubeconfig), "image": IMAGE, "launcher_image": IMAGE, "pull": "missing", "cpu_request_percent": 2, **more}
        return daemon.ctl("register-orchestrator", name, "--flavor", self.flavor, "--config-file",
                          daemon.file(json.dumps(config), f"{name}.json"), code=code).stderr

    def other(self, **more: Any) -> None:
        """What is submitted from now on goes to another one, configured so."""
        self.register(self.daemon, "other", **more)
        self.orchestrator = "other"

    def nothing_is_left(self) -> None:
        self.daemon.close()
        for kind in (*(k for k in self.kinds if k != "pods"), "resourcequotas"):
            self.cluster.kubectl("-n", "orchd", "delete", kind, "--all", "--wait=false")

    def submit(self, *steps: dict[str, Any], daemon: Daemon | None = None, **more: Any) -> str:
        return (daemon or self.daemon).submit(json.dumps({"name": "p", "steps": list(steps), **more}), "--orchestrator", self.orchestrator)

    def step(self, script: str = "true", name: str = "a", settings: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        return {"name": name, "command": ["sh", "-c", script], **({"settings": {self.flavor: settings}} if settings else {}), **more}

    def wait(self, run: str, code: int | None = 0) -> dict[str, Any]:
        self.daemon.ctl("wait-run", run, "--timeout", "400s", code=code, timeout=460)
        return self.daemon.steps(run)["a"]

    def ours(self, kind: str = "") -> list[dict[str, Any]]:
        return [o for o in self.cluster.list(kind or self.kinds[0]) if LABEL in o["metadata"].get("labels", {})]

    def gets(self, said: Any, has: Any, known: dict[str, str], where: str) -> None:
        """What a plan said is in what the API server has, which adds what is usual. `known`: what a plan cannot know, and says else."""
        if isinstance(said, dict):
            for name, value in said.items():
                self.assertIn(name, has, where)
                self.gets(value, has[name], known, f"{where}.{name}")
        elif isinstance(said, list):
            self.assertEqual(len(said), len(has), where)
            for number, value in enumerate(said):
                self.gets(value, has[number], known, f"{where}[{number}]")
        elif where.endswith("orchd.io/run-id"):
            self.assertEqual((said, has), ("", known["run-id"]))
        elif where.endswith(".cpu"):  # `1000m` may be written as `1`
            self.assertEqual(*(float(cpu.rstrip("m")) / (1000 if cpu.endswith("m") else 1) for cpu in (said, has)), where)
        elif isinstance(said, str):
            self.assertEqual(said.replace("a" * 20, known["a" * 20]), has, where)
        else:
            self.assertEqual(said, has, where)

    def wait_said(self, run: str, words: str) -> dict[str, Any]:
        wait_for(f"`{words}`", lambda: words in self.daemon.steps(run).get("a", {}).get("message", ""), 180)
        return self.daemon.steps(run)["a"]

    def wait_state(self, run: str, state: str) -> None:
        wait_for(state, lambda: self.daemon.steps(run).get("a", {}).get("state") == state, 180)

    def wait_clean(self) -> None:
        wait_for("the namespace to be clean", lambda: not [o for kind in self.kinds for o in self.ours(kind)], 180)

    def killed_at(self, point: str, marks: Path) -> None:
        """The daemon is killed there and comes back: a step has run once, and nothing of it is left. At the point of deletion it is
        cancelled. `marks`: a folder that pods may write to."""
        settings = {"volumes": [{"name": "m", "hostPath": {"path": str(marks)}}], "volume_mounts": [{"name": "m", "mountPath": "/m"}]}
        stops = point.endswith(".delete")
        name = point.replace(".", "-")
        script = f"echo x >> /m/{name}; {'while true; do sleep 0.1; done' if stops else 'true'}"
        file = self.daemon.file(json.dumps({"name": "p", "steps": [self.step(script, settings=settings)]}), "p.json")
        once = self.daemon.home / "once"
        once.touch()
        self.daemon.stop()
        self.daemon.faults = f"{point}=kill@{once}"
        self.daemon.start()
        self.daemon.ctl("submit", file, "--orchestrator", self.orchestrator, "--name", name, code=None)
        if stops:
            wait_for("it to run", lambda: (marks / name).exists(), 180)
            self.daemon.ctl("cancel-run", name, code=None)
        wait_for("the fault", lambda: not once.exists(), 120)
        assert self.daemon.process is not None
        self.daemon.process.wait(30)
        self.daemon.faults = ""
        self.daemon.start()
        step = self.wait(name, code=5 if stops else 0)
        self.assertEqual((step["state"], step["attempt"]), ("CANCELLED" if stops else "SUCCEEDED", 1))
        self.assertEqual((marks / name).read_text(), "x\n")
        self.wait_clean()

    def preempted(self, **config: Any) -> None:
        """One of a higher priority takes its place, and it is told so."""
        for name, value in (("k8s-low", 1), ("k8s-high", 1000)):
            self.cluster.kubectl("create", "priorityclass", name, f"--value={value}")
            self.addCleanup(self.cluster.kubectl, "delete", "priorityclass", name)
        self.register(self.daemon, "full", cpu_request_percent=100, **config)
        self.orchestrator = "full"
        cpus = int(self.cluster.node()["status"]["allocatable"]["cpu"])
        low = self.submit(self.step("sleep 300", settings={"priority_class": "k8s-low"}, resources={"cpu": cpus * 0.8}))
        self.wait_state(low, "RUNNING")
        high = self.submit(self.step(settings={"priority_class": "k8s-high"}, resources={"cpu": cpus * 0.8}))
        step = self.wait(low, code=1)
        self.assertEqual(step["reason"], "PREEMPTED", step)
        self.assertEqual(self.wait(high)["state"], "SUCCEEDED")
        self.wait_clean()

    def lost_with_its_node(self, *orchestrators: str) -> None:
        """Its node dies under it: on each of these the attempt is NODE_LOST, and the next one runs when there is a node again. It needs
        another node: from one of which no node is well the cluster takes nothing away."""
        gone = [{"key": f"node.kubernetes.io/{word}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
                for word in ("unreachable", "not-ready")]
        step = self.step("[ $ORCH_ATTEMPT -gt 1 ] || sleep 1000", settings={"tolerations": gone}, retry={"max_attempts": 2, "backoff": {"initial": "10ms"}})
        runs = []
        for self.orchestrator in orchestrators:
            runs.append(self.submit(step, execution_mode="fail_fast", name=f"on-{self.orchestrator}"))
            self.wait_state(runs[-1], "RUNNING")

        def attempts(run: str) -> list[dict[str, Any]]:
            said: list[dict[str, Any]] = self.daemon.json("get-step", run, "a")["attempts"]
            return said

        with self.cluster.without_its_node():
            for run in runs:
                wait_for("the next attempt", lambda run=run: len(attempts(run)) == 2, 240, every=0.5)  # type: ignore[misc]
                self.assertEqual(attempts(run)[0]["reason"], "NODE_LOST", attempts(run))
        for run in runs:
            self.assertGreater(self.wait(run)["attempt"], 1)  # a node that comes back may fail one
        self.wait_clean()

    def open_folder(self, name: str) -> Path:
        """Of the test's own, which pods may write to."""
        folder = self.daemon.home / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        return folder
