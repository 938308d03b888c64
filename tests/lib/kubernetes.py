"""A real Kubernetes of one node for a test, started and stopped by tests/platforms/kubernetes."""
from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any, Iterator

import yaml

from tests.lib.daemon import ROOT, wait_for

SCRIPTS = ROOT / "tests/platforms/kubernetes"
IMAGE = "localhost/orch-test:1"


class Cluster:
    """`up` skips the test where no cluster can be had, and says why. With ORCH_TEST_CLUSTER it is one that runs already in that folder,
    which is left alone."""

    def __init__(self, launcher: Path | None = None, simulated: int = 0, **environment: str) -> None:
        """With so many simulated nodes, and more for the environment of `up`."""
        self.more = ["--simulated", str(simulated)] if simulated else []
        self.kept = os.environ.get("ORCH_TEST_CLUSTER", "")
        self.folder = Path(self.kept or tempfile.mkdtemp(prefix="orchd-kubernetes-"))
        self.kubeconfig = self.folder / "kubeconfig"  # of the account that orchd has
        self.environment = {**os.environ, "ORCH_TEST_OWNER": str(os.getpid()), **environment}
        if launcher:
            self.environment["ORCH_LAUNCH"] = str(launcher)

    def up(self) -> None:
        if self.kept:
            return
        done = subprocess.run([SCRIPTS / "up", self.folder, *self.more], capture_output=True, text=True, timeout=3000, env=self.environment)
        if done.returncode != 0:
            log = self.folder / "log/start"
            more = log.read_text(errors="replace")[-1500:] if log.exists() else ""
            self.down()
            if done.returncode == 3:  # it cannot be had here
                raise unittest.SkipTest("no Kubernetes: " + done.stderr.strip()[-500:])
            raise AssertionError(f"the cluster does not come up: {done.stderr[-500:]}{more}")

    def down(self) -> None:
        if self.kept:
            return
        subprocess.run([SCRIPTS / "down", self.folder], capture_output=True, timeout=120)
        shutil.rmtree(self.folder, ignore_errors=True)

    def part(self, *words: str) -> str:
        done = subprocess.run([SCRIPTS / "part", self.folder, *words], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout

    def kubectl(self, *words: str) -> str:
        """As the administrator."""
        return self.part("kubectl", *words)

    def ready(self) -> None:
        """Waits for the API server."""
        def answers() -> bool:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                self.kubectl("get", "--raw", "/readyz")
                return True
            return False
        wait_for("the API server", answers, 180, every=0.3)

    def list(self, kind: str, space: str = "orchd") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self.kubectl("-n", space, "get", kind, "-o", "json"))["items"]
        return items

    @contextlib.contextmanager
    def without_its_node(self) -> Iterator[None]:
        """Meanwhile the real node is dead: the kubelet and all that runs in pods are killed. It comes back without any of these."""
        self.part("kill", "kubelet")
        group = (self.folder / "cgroup").read_text().strip()
        for processes in {*Path("/sys/fs/cgroup").glob(f"{group}/kubepods/**/cgroup.procs"),
                          *Path("/sys/fs/cgroup").glob(f"*/{group}/kubepods/**/cgroup.procs")}:
            with contextlib.suppress(OSError):  # its pod is gone
                for pid in processes.read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
        try:
            yield
        finally:
            self.part("start", "kubelet")
            wait_for("the node", lambda: any(c["type"] == "Ready" and c["status"] == "True" for c in self.node()["status"]["conditions"]), 180, every=0.3)

    def node(self) -> dict[str, Any]:
        """The real one."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "node", "n1", "-o", "json"))
        return found

    @property
    def here(self) -> str:
        """This machine's address, as pods see it."""
        return (self.folder / "here").read_text().strip()

    @property
    def server(self) -> str:
        return f"https://{(self.folder / 'there').read_text().strip()}:6443"

    def curl_words(self, method: str, path: str) -> tuple[list[str], list[str]]:
        """As the account of orchd. What may not be in the arguments of a process goes through a file of curl's, whose lines are the second."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        authority = self.folder / "curl-ca.crt"
        authority.write_bytes(base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
        lines = [f'header = "Authorization: Bearer {config["users"][0]["user"]["token"]}"', f'cacert = "{authority}"', f"request = {method}"]
        return ["curl", "-sS", "--noproxy", "*", "-K", "-", "-w", "\n%{http_code}", f"{self.server}{path}"], lines

    def curl(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        words, lines = self.curl_words(method, path)
        if body is not None:
            lines.append('header = "Content-Type: application/json"')
            words += ["--data-binary", json.dumps(body)]
        done = subprocess.run(words, input="\n".join(lines), capture_output=True, text=True, timeout=120, check=True)
        text, code = done.stdout.rsplit("\n", 1)
        return int(code), text

    def refused(self) -> float:
        """How many requests were, while it was busy."""
        lines = self.kubectl("get", "--raw", "/metrics").splitlines()
        mine = (line for line in lines if line.startswith("apiserver_flowcontrol_rejected_requests_total{") and '"orch-test"' in line)
        return sum(float(line.rsplit(" ", 1)[1]) for line in mine)

    @contextlib.contextmanager
    def busy(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Meanwhile, or until the process is killed that it gives, no seat is left for orchd's account: what the API server lets it ask
        one at a time is held by a request that does not end, and the others are answered with 429. It lasts for a minute, or as
        long as the API server's --request-timeout says."""
        level = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration", "metadata": {"name": "orch-test"},
                 "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
                                                         "limitResponse": {"type": "Reject"}}}}
        subject = {"kind": "ServiceAccount", "serviceAccount": {"name": "orchd", "namespace": "orchd"}}
        rules = {"subjects": [subject], "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]}
        flow = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "orch-test"},
                "spec": {"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "orch-test"}, "rules": [rules]}}
        objects = self.folder / "busy.json"
        objects.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [level, flow]}))
        path = "/apis/batch/v1/namespaces/orchd/jobs"
        words, options = self.curl_words("POST", path)
        configuration = self.folder / "busy.curl"
        configuration.touch(0o600)
        configuration.write_text("\n".join([*options, 'upload-file = "-"', 'header = "Content-Type: application/json"']))
        words[words.index("-K") + 1] = str(configuration)
        holder: "subprocess.Popen[bytes] | None" = None

        def held() -> bool:
            nonlocal holder
            if holder is None or holder.poll() is not None:
                holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return self.curl("GET", path)[0] == 429

        self.kubectl("apply", "-f", str(objects))
        try:
            wait_for("the seat to be taken", held, 120, every=0.2)
            assert holder is not None
            yield holder
        finally:
            if holder is not None:
                holder.kill()
                holder.communicate()
            self.kubectl("delete", "-f", str(objects))
