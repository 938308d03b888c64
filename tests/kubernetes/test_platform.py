"""The cluster that the tests start is a real one: containers run, rights are kept, and nothing of it is left afterwards."""
import json
import os
import subprocess
import unittest
from pathlib import Path

from tests.lib.daemon import BIN, wait_for
from tests.lib.kubernetes import IMAGE, SCRIPTS, Cluster


class Platform(unittest.TestCase):
    cluster: Cluster

    @classmethod
    def setUpClass(cls) -> None:
        # Now and then the server tells a client to go elsewhere, as one behind a load balancer does.
        cls.cluster = Cluster(ORCH_KUBE_APISERVER="--goaway-chance=0.005")
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()

    def job(self, name: str, script: str) -> dict[str, object]:
        container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script]}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
                "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}}

    def ended(self, name: str) -> str:
        code, text = self.cluster.curl("GET", f"/apis/batch/v1/namespaces/orchd/jobs/{name}")
        self.assertEqual(code, 200, text)
        conditions = json.loads(text)["status"].get("conditions", [])
        return next((c["type"] for c in conditions if c["status"] == "True" and c["type"] in ("Complete", "Failed")), "")

    def test_a_container_runs_to_its_end_and_its_log_is_read(self) -> None:
        for name, script, end in (("good", "echo hello from $(hostname); id -u", "Complete"), ("bad", "echo no >&2; exit 3", "Failed")):
            code, text = self.cluster.curl("POST", "/apis/batch/v1/namespaces/orchd/jobs", self.job(name, script))
            self.assertEqual(code, 201, text)
            wait_for(f"job {name} to end", lambda name=name: self.ended(name), 300, every=0.3)
            self.assertEqual(self.ended(name), end)
            code, text = self.cluster.curl("GET", f"/api/v1/namespaces/orchd/pods?labelSelector=job-name%3D{name}")
            pod = json.loads(text)["items"][0]
            state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
            self.assertEqual(state["exitCode"], 0 if end == "Complete" else 3)
            self.assertEqual(pod["spec"]["nodeName"], "n1")
            code, log = self.cluster.curl("GET", f"/api/v1/namespaces/orchd/pods/{pod['metadata']['name']}/log")
            self.assertEqual((code, log), (200, f"hello from {pod['metadata']['name']}\n0\n" if end == "Complete" else "no\n"))

    def test_the_account_has_the_rights_it_needs_and_no_others(self) -> None:
        for method, path in (("GET", "/api/v1/nodes"), ("GET", "/api/v1/namespaces/kube-system/pods"), ("GET", "/api/v1/namespaces/orchd/secrets/x"),
                             ("DELETE", "/api/v1/namespaces/orchd")):
            code, text = self.cluster.curl(method, path)
            self.assertEqual(code, 403, f"{method} {path}: {text}")
        self.assertEqual(self.cluster.curl("GET", "/apis/batch/v1/namespaces/orchd/jobs")[0], 200)

    def test_pods_reach_this_machine(self) -> None:
        script = f"nc -w 60 {self.cluster.here} $PORT </dev/null"
        import socket
        with socket.create_server((self.cluster.here, 0)) as server:
            server.settimeout(300)
            job = self.job("reaches", script.replace("$PORT", str(server.getsockname()[1])))
            self.assertEqual(self.cluster.curl("POST", "/apis/batch/v1/namespaces/orchd/jobs", job)[0], 201)
            connection, peer = server.accept()
            connection.close()
        self.assertEqual(peer[0], (self.cluster.folder / "there").read_text().strip())

    def client(self, tests: str, **more: str) -> None:
        environment = dict(os.environ, ORCH_TEST_KUBECONFIG=str(self.cluster.kubeconfig), ORCH_TEST_PART=f"{SCRIPTS}/part {self.cluster.folder}", **more)
        done = subprocess.run([BIN / "kubernetes_test", f"--gtest_filter={tests}"], env=environment, capture_output=True, text=True, timeout=1500)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-1000:])
        self.assertIn("[  PASSED  ]", done.stdout)
        self.assertNotIn("SKIPPED", done.stdout)

    def test_the_client_on_it(self) -> None:
        self.client("LiveTest.*")

    def test_the_client_when_it_fails(self) -> None:
        self.client("LiveFaultTest.*-*TooBusy*")

    def test_the_client_when_it_is_too_busy(self) -> None:
        with self.cluster.busy() as holder:
            self.client("LiveFaultTest.TooBusy*", ORCH_TEST_RELEASE=f"kill -9 {holder.pid}")


class Down(unittest.TestCase):
    def left(self, folder: str, group: str, here: str, spaces: set[str]) -> list[str]:
        out = [str(p) for p in Path("/sys/fs/cgroup").glob(f"*/{group}")] + [folder] * Path(folder).exists()
        for process in Path("/proc").glob("[0-9]*"):
            if folder.encode() in _read(process / "cmdline") or any(_link(process / "ns" / kind) in spaces for kind in ("net", "mnt", "pid")):
                out.append(f"process {process.name}: {_read(process / 'cmdline')!r}")
        out += [line for line in Path("/proc/mounts").read_text().splitlines() if folder in line]
        return out + [line for line in subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True).stdout.splitlines() if f"{here}/" in line]

    def known(self, folder: Path) -> tuple[str, str, str, set[str]]:
        init = (folder / "init").read_text().strip()
        spaces = {_link(Path(f"/proc/{init}/ns/{kind}")) for kind in ("net", "mnt", "pid")} - {""}
        self.assertEqual(len(spaces), 3)
        return str(folder), (folder / "cgroup").read_text().strip(), (folder / "here").read_text().strip(), spaces

    def run_one(self, cluster: Cluster) -> None:
        """A container runs when the cluster ends."""
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stays", "namespace": "orchd"},
               "spec": {"containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "1000"]}]}}
        (cluster.folder / "pod.json").write_text(json.dumps(pod))
        cluster.kubectl("apply", "-f", str(cluster.folder / "pod.json"))
        wait_for("the pod to run", lambda: cluster.list("pods")[0]["status"].get("phase") == "Running", 300, every=0.2)

    def test_nothing_is_left(self) -> None:
        cluster = Cluster()
        self.addCleanup(cluster.down)
        cluster.up()
        self.run_one(cluster)
        known = self.known(cluster.folder)
        self.assertNotEqual(self.left(*known), [])
        subprocess.run([SCRIPTS / "down", cluster.folder], check=True, timeout=120)
        self.assertEqual(self.left(*known), [])

    def test_nothing_is_left_of_a_test_that_was_killed(self) -> None:
        owner = subprocess.Popen(["sleep", "100000"])
        self.addCleanup(owner.kill)
        cluster = Cluster(ORCH_TEST_OWNER=str(owner.pid))
        self.addCleanup(cluster.down)
        cluster.up()
        self.run_one(cluster)
        known = self.known(cluster.folder)
        owner.kill()
        owner.wait()
        wait_for("nothing of it to be left", lambda: not self.left(*known), 300, every=0.3)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


if __name__ == "__main__":
    unittest.main()
