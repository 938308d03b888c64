"""examples/digits on local and on a real cluster, whose pods get and give their files by the daemon's HTTP or by S3: the same bytes."""
from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

from tests.lib.certificates import Authority, flags
from tests.lib.daemon import BIN, ROOT, Daemon
from tests.lib.kubernetes import IMAGE, Cluster
from tests.lib.s3 import Server, Wire

# An image of this machine's own Python.
MOUNTS = {"/usr": "/usr", "/usr/lib": "/lib", "/usr/lib64": "/lib64", "/etc": "/etc"}


class DigitsOnACluster(unittest.TestCase):
    flavor = "kubernetes"
    platform = Cluster
    digits = ROOT / "examples/digits/pipeline.yaml"

    def setUp(self) -> None:
        if subprocess.run(["/usr/bin/python3", "-c", "import sklearn, matplotlib"], capture_output=True).returncode != 0:
            self.skipTest("Debian's python3-sklearn and python3-matplotlib are not here")
        self.cluster = self.platform(launcher=BIN / "orch-launch")
        self.addCleanup(self.cluster.down)
        self.cluster.up()
        folder = Path(tempfile.mkdtemp(prefix="orchd-k8s-digits-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        authority = Authority(folder)
        with socket.create_server((self.cluster.here, 0)) as probe:
            address = f"{self.cluster.here}:{probe.getsockname()[1]}"
        self.daemon = Daemon(flags=[*flags(authority.sign("daemon", f"IP:{self.cluster.here}")), "--http-listen", address,
                                    "--step-endpoint", f"https://{address}", "--step-ca", str(authority.certificate)], ca=authority.certificate)
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.register("k8s")

    def register(self, name: str, **more: Any) -> None:
        names = {path: f"m{n}" for n, path in enumerate(MOUNTS)}
        config = {"kubeconfig": str(self.cluster.kubeconfig), "image": IMAGE, "launcher_image": IMAGE, "pull": "never", "cpu_request_percent": 2,
                  "volumes": [{"name": name, "hostPath": {"path": path}} for path, name in names.items()],
                  "volume_mounts": [{"name": name, "mountPath": MOUNTS[path], "readOnly": True} for path, name in names.items()], **more}
        self.daemon.ctl("register-orchestrator", name, "--flavor", self.flavor, "--config-file", self.daemon.file(json.dumps(config), f"{name}.json"))

    def digests(self, run: str, *where: str) -> dict[str, str]:
        self.daemon.ctl("submit", self.digits, "--name", run, "--no-cache", "--wait", *where, timeout=1200)
        self.assertEqual({s["state"] for s in self.daemon.steps(run).values()}, {"SUCCEEDED"})
        return {a["name"]: a["digest"] for a in self.daemon.json("list-artifacts", "--run", run)["artifacts"] if a.get("digest")}

    def same(self, run: str, *where: str) -> None:
        expected = self.digests("on-local", "--orchestrator", "local")
        self.assertGreater(len(expected), 10)
        self.assertEqual(self.digests(run, *where), expected)
        self.assertIn("15 steps are the same", self.daemon.ctl("diff-runs", "on-local", run, code=None).stdout)

    def stack(self, orchestrator: str = "k8s") -> Path:
        """Registers a stack `prod` of that orchestrator and a bucket; the bucket's folder."""
        server = Server("versitygw")
        self.addCleanup(server.down)
        server.up()
        wire = Wire(server.address, here=self.cluster.here)  # the server is on loopback alone, where pods do not reach it
        self.addCleanup(wire.close)
        bucket = server.bucket("digits")
        for name, value in zip(("access", "secret"), server.keys("writer")):
            self.daemon.ctl("set-secret", name, stdin=value)
        config = (f"endpoint={wire.address}", "bucket=digits", "access_key_secret=access", "secret_key_secret=secret")
        self.daemon.ctl("register-artifact-store", "team", "--flavor", "s3", *[word for item in config for word in ("--config", item)])
        self.daemon.ctl("register-stack", "prod", "--orchestrator", orchestrator, "--artifact-store", "team")
        return bucket

    def in_bucket(self, bucket: Path) -> None:
        self.assertGreater(len([f for f in bucket.rglob("*") if f.is_file()]), 10)
