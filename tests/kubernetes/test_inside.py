"""The daemon in a cluster: its image, the Helm chart, and the plain manifests, applied to a real one; runs are submitted through its Service,
and its pod is killed under them."""
from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

from tests.lib.certificates import Authority
from tests.lib.daemon import ROOT, wait_for
from tests.lib.kubernetes import IMAGE, SCRIPTS, Cluster

HERE = ROOT / "deploy"
USER = 10001  # the image's
TAG = "0.1.0"


def helm(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPTS / "helm", *map(str, words)], capture_output=True, text=True, timeout=1800)


class Chart(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        if helm("version").returncode == 3:
            raise unittest.SkipTest("no Helm: " + helm("version").stderr.strip()[-300:])

    def render(self, *words: str) -> subprocess.CompletedProcess[str]:
        return helm("template", "orchd", HERE / "helm/orchd", "--kube-version", "1.34", *words)

    def test_it_has_no_faults(self) -> None:
        done = helm("lint", "--strict", "--kube-version", "1.34", HERE / "helm/orchd")
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_the_plain_manifests_are_what_it_makes(self) -> None:
        done = subprocess.run([HERE / "kubernetes/render"], capture_output=True, text=True, env={**os.environ, "HELM": str(SCRIPTS / "helm")})
        self.assertEqual(done.stdout, (HERE / "kubernetes/orchd.yaml").read_text(), "deploy/kubernetes/render makes it anew")

    def test_values_that_are_none_are_refused(self) -> None:
        for words, said in ((("--set", "persistance.size=1Gi"), "persistance"), (("--set", "config.listen=0.0.0.0:1"), "/config"),
                            (("--set", "image.pullPolicy=always"), "/image/pullPolicy"), (("--set", "service.host=a b"), "/service/host")):
            with self.subTest(said):
                done = self.render(*words)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(said, done.stderr)

    def test_what_is_set_up_can_be_said(self) -> None:
        done = self.render("--set-json", 'setup={"orchestrators": [{"name": "big", "flavor": "kubernetes", "config": {"image": "x:1"}}]}')
        self.assertIn("name: big", done.stdout)
        self.assertNotIn("launcher_path", done.stdout)
        done = self.render("--set-json", 'setup={"pools": [{"name": "db", "slots": 2}]}')
        self.assertIn("name: db", done.stdout)
        self.assertIn("name: kubernetes", done.stdout)


class Inside(unittest.TestCase):
    cluster: Cluster

    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.folder = Path(tempfile.mkdtemp(prefix="orchd-inside-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        made = subprocess.run([SCRIPTS / "daemon-image", cls.folder / "image.tar", TAG], capture_output=True, text=True, timeout=1800)
        if made.returncode == 3:
            raise unittest.SkipTest("no image: " + made.stderr.strip()[-300:])
        if made.returncode != 0:
            raise AssertionError(made.stderr[-1000:])
        cls.cluster.part("import", str(cls.folder / "image.tar"))

    def setUp(self) -> None:
        self.space = self._testMethodName.replace("_", "-")[:40].strip("-")
        self.kubectl("create", "namespace", self.space, space="default")
        self.addCleanup(self.kubectl, "delete", "namespace", self.space, "--wait=false", space="default")

    def kubectl(self, *words: str, space: str = "") -> str:
        return self.cluster.kubectl("-n", space or self.space, *words)

    def apply(self, text: str) -> None:
        file = self.folder / "applied.yaml"
        file.write_text(text)
        self.kubectl("apply", "-f", str(file))

    def make(self, kind: str, name: str, version: str = "v1", **more: Any) -> None:
        self.apply(json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}))

    def disk(self) -> Path:
        """A volume for the daemon's claim: a folder, as there is no provisioner here."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        os.chown(folder, USER, USER)
        self.make("PersistentVolume", self.space, spec={"capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"],
                                                        "claimRef": {"namespace": self.space, "name": "data-orchd-0"}, "hostPath": {"path": str(folder)}})
        self.addCleanup(self.kubectl, "delete", "pv", self.space, "--wait=false")
        return folder

    def client(self, address: str) -> None:
        """A pod that has orchctl, the token and the authority, and reaches the daemon by its Service alone."""
        secrets = {"tls": "orchd-tls", "token": "orchd-token"}
        environment = {"ORCH_SERVER": f"https://{address}:7433", "ORCH_CA": "/tls/ca.crt", "ORCH_TOKEN_FILE": "/token/token", "HOME": "/tmp"}
        self.make("Pod", "client", spec={
            "terminationGracePeriodSeconds": 0, "securityContext": {"fsGroup": USER},
            "containers": [{"name": "client", "image": f"localhost/orchd:{TAG}", "command": ["sleep", "1000000"],
                            "env": [{"name": k, "value": v} for k, v in environment.items()],
                            "volumeMounts": [{"name": k, "mountPath": f"/{k}"} for k in secrets]}],
            "volumes": [{"name": k, "secret": {"secretName": v, "defaultMode": 0o440}} for k, v in secrets.items()]})
        self.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=120s")

    def ctl(self, *words: str) -> str:
        return self.kubectl("exec", "client", "--", "orchctl", *words)

    def submit(self, *steps: dict[str, Any]) -> str:
        text = json.dumps({"name": "p", "steps": steps})
        self.kubectl("exec", "client", "--", "sh", "-c", 'printf %s "$1" >/tmp/p.yaml', "sh", text)
        return self.ctl("-q", "submit", "/tmp/p.yaml").strip()

    def steps(self, run: str) -> dict[str, dict[str, Any]]:
        return {step["name"]: step for step in json.loads(self.ctl("list-steps", run, "-o", "json"))["steps"]}

    def killed_under_a_run(self) -> None:
        marks = Path(tempfile.mkdtemp(dir=self.folder))
        marks.chmod(0o777)
        settings = {"volumes": [{"name": "m", "hostPath": {"path": str(marks)}}], "volume_mounts": [{"name": "m", "mountPath": "/m"}]}

        def step(name: str, script: str, **more: Any) -> dict[str, Any]:
            return {"name": name, "image": IMAGE, "command": ["sh", "-c", f"echo x >>/m/{name}; {script}"], "settings": {"kubernetes": settings}, **more}

        run = self.submit(step("a", "echo made >$ORCH_OUTPUT_X", outputs={"x": {}}),
                          step("b", "until [ -f /m/go ]; do sleep 0.1; done; cat $ORCH_INPUT_X", inputs={"x": {"from": "a.x"}}),
                          step("c", "cat $ORCH_INPUT_X; echo end", inputs={"x": {"from": "a.x"}}, after=["b"]))
        wait_for("b to run", (marks / "b").exists, 180)
        before = json.loads(self.kubectl("get", "pod", "orchd-0", "-o", "json"))["metadata"]["uid"]
        self.kubectl("delete", "pod", "orchd-0", "--grace-period=0", "--force")
        (marks / "go").touch()
        self.kubectl("rollout", "status", "statefulset/orchd", "--timeout=180s")
        wait_for("another pod", lambda: json.loads(self.kubectl("get", "pod", "orchd-0", "-o", "json"))["metadata"]["uid"] != before, 120)
        self.kubectl("wait", "--for=condition=Ready", "pod/orchd-0", "--timeout=180s")
        self.ctl("wait-run", run, "--timeout", "180s")
        self.assertEqual({name: (s["state"], s["attempt"]) for name, s in self.steps(run).items()}, dict.fromkeys("abc", ("SUCCEEDED", 1)))
        self.assertEqual({name: (marks / name).read_text() for name in "abc"}, dict.fromkeys("abc", "x\n"))
        self.assertEqual(self.ctl("logs", run, "b"), "made\n")
        self.assertEqual(self.ctl("logs", run, "c"), "made\nend\n")
        wait_for("the Jobs to be removed", lambda: not json.loads(self.kubectl("get", "jobs", "-l", "orchd.io/run", "-o", "json"))["items"], 120)

    def test_the_chart(self) -> None:
        self.disk()
        address = "10.96.0.50"
        values = [f"service.clusterIP={address}", f"service.host={address}", "image.repository=localhost/orchd", "config.grace=2s"]

        def release(verb: str, *more: str) -> None:
            self.cluster.part("helm", verb, "orchd", str(HERE / "helm/orchd"), "-n", self.space, "--wait", "--timeout", "4m",
                              *[word for value in [*values, *more] for word in ("--set", value)])

        release("install")
        self.assertIn("kubernetes", self.kubectl("exec", "orchd-0", "--", "orchctl", "list-orchestrators"))
        self.client(address)
        check = json.loads(self.ctl("check-orchestrator", "kubernetes", "-o", "json"))
        self.assertTrue(check["good"], check)
        self.killed_under_a_run()
        secrets = {o["metadata"]["name"]: o["data"] for o in self.cluster.list("secrets", self.space)}
        release("upgrade", "config.grace=3s")
        self.kubectl("wait", "--for=condition=Ready", "pod/orchd-0", "--timeout=180s")
        self.assertEqual(self.kubectl("exec", "orchd-0", "--", "orchd", "--config", "/etc/orchd/config/orchd.yaml", "--print-config").count("grace: 3000ms"), 1)
        now = {o["metadata"]["name"]: o["data"] for o in self.cluster.list("secrets", self.space)}
        for name in ("orchd-tls", "orchd-token"):
            self.assertEqual(now[name], secrets[name])
        self.assertIn("SUCCEEDED", self.ctl("list-runs"))
        self.cluster.part("helm", "uninstall", "orchd", "-n", self.space, "--wait", "--timeout", "2m")
        for kind in ("statefulsets", "services", "configmaps", "roles", "rolebindings", "jobs"):
            left = [o["metadata"]["name"] for o in self.cluster.list(kind, self.space) if "orchd" in o["metadata"]["name"]]
            self.assertEqual(left, [], kind)
        self.assertEqual(len(self.cluster.list("persistentvolumeclaims", self.space)), 1)  # the data is the user's to delete

    def test_the_plain_manifests(self) -> None:
        self.disk()
        address = "10.96.0.51"
        authority = Authority(Path(tempfile.mkdtemp(dir=self.folder)))
        certificate, key = authority.sign("orchd", f"IP:{address},DNS:localhost")
        data = {"ca.crt": authority.certificate, "tls.crt": certificate, "tls.key": key}
        self.make("Secret", "orchd-tls", data={name: base64.b64encode(Path(file).read_bytes()).decode() for name, file in data.items()})
        self.make("Secret", "orchd-token", data={"token": base64.b64encode(os.urandom(32).hex().encode()).decode()})
        # Another namespace, an image of this machine, and an address where a cluster with DNS has a name.
        text = (HERE / "kubernetes/orchd.yaml").read_text()
        for old, new in (("orchd.orchd.svc", address), ("namespace: orchd", f"namespace: {self.space}"), ("orchd:0.1.0", "localhost/orchd:0.1.0"),
                         ("type: ClusterIP", f"type: ClusterIP\n  clusterIP: {address}")):
            self.assertIn(old, text)
            text = text.replace(old, new)
        self.apply(text)
        self.kubectl("rollout", "status", "statefulset/orchd", "--timeout=240s")
        self.kubectl("wait", "--for=condition=Complete", "job/orchd-setup", "--timeout=240s")
        self.client(address)
        self.killed_under_a_run()


if __name__ == "__main__":
    unittest.main()
