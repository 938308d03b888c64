"""examples/digits unchanged on local, local_docker and slurm, and once with its steps spread over the three: the same bytes each time."""
import json
import subprocess
import unittest
from typing import Any

from tests.lib.daemon import ROOT, Daemon
from tests.lib.engine import Engine
from tests.lib.slurm import PLUGIN, Cluster

DIGITS = ROOT / "examples/digits"
# An image of this machine's own Python.
MOUNTS = ["/usr:/usr:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro", "/etc:/etc:ro"]
WHERE = {"ingest": "local", "check": "docker", "split": "hpc", "train": "docker", "evaluate": "hpc", "select": "local", "report": "docker"}


class Three(unittest.TestCase):
    slow = 100

    def setUp(self) -> None:
        if subprocess.run(["/usr/bin/python3", "-c", "import sklearn, matplotlib"], capture_output=True).returncode != 0:
            self.skipTest("Debian's python3-sklearn and python3-matplotlib are not here")
        self.engine = Engine()
        self.addCleanup(self.engine.down)
        self.engine.up()
        self.cluster = Cluster(cpus=8)
        self.addCleanup(self.cluster.down)
        self.cluster.up()
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.daemon.ctl("register-flavor", PLUGIN)
        docker = {"host": self.engine.address, "image": "orch-test", "network": "none", "pull": "never", "mounts": MOUNTS}
        slurm = {"slurm_conf": str(self.cluster.conf)}
        for name, flavor, config in (("docker", "local_docker", docker), ("copies", "local_docker", {**docker, "artifacts": "daemon"}), ("hpc", "slurm", slurm),
                                     ("apart", "slurm", {**slurm, "artifacts": "daemon", "endpoint": f"unix:{self.daemon.data}/steps/http.sock"})):
            file = self.daemon.file(json.dumps(config), "config.json")
            self.daemon.ctl("register-orchestrator", name, "--flavor", flavor, "--config-file", file)

    def submit(self, name: str, file: object, *more: str) -> dict[str, Any]:
        self.daemon.ctl("submit", file, "--name", name, "--no-cache", "--wait", *more, timeout=580)
        return self.daemon.steps(name)

    def digests(self, run: str) -> dict[str, str]:
        return {a["name"]: a["digest"] for a in self.daemon.json("list-artifacts", "--run", run)["artifacts"] if a.get("digest")}

    def test_digits(self) -> None:
        names = list(self.submit("on-local", DIGITS / "pipeline.yaml", "--orchestrator", "local"))
        expected = self.digests("on-local")
        self.assertGreater(len(expected), 10)
        for orchestrator in ("docker", "copies", "hpc", "apart"):
            with self.subTest(orchestrator):
                steps = self.submit(f"on-{orchestrator}", DIGITS / "pipeline.yaml", "--orchestrator", orchestrator)
                self.assertEqual({s["orchestrator"] for s in steps.values()}, {orchestrator})
                self.assertEqual(self.digests(f"on-{orchestrator}"), expected)
                self.assertIn("15 steps are the same", self.daemon.ctl("diff-runs", "on-local", f"on-{orchestrator}", code=None).stdout)
        # One run, its steps spread over the three; its file beside the others, so that it finds what it needs.
        text = (DIGITS / "pipeline.yaml").read_text()
        for step, orchestrator in WHERE.items():
            self.assertIn(f"  - name: {step}\n", text)
            text = text.replace(f"  - name: {step}\n", f"  - name: {step}\n    orchestrator: {orchestrator}\n")
        spread = DIGITS / "pipeline-spread-test.yaml"
        spread.write_text(text)
        self.addCleanup(spread.unlink)
        steps = self.submit("on-three", spread)
        self.assertEqual({n: s["orchestrator"] for n, s in steps.items()}, {n: WHERE[n.split("[")[0]] for n in names})
        self.assertEqual(self.digests("on-three"), expected)


if __name__ == "__main__":
    unittest.main()
