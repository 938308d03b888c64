"""A container with a network of its own, in an engine with a network of its own, reaches the daemon by TLS."""
from __future__ import annotations

import os
import shutil
import socket
import tempfile
import unittest
from pathlib import Path

from tests.lib.certificates import Authority, flags
from tests.lib.daemon import Daemon, wait_for
from tests.lib.engine import shared_engine
from tests.lib.netns import Wire


class StepEndpoint(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = shared_engine()

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="orchd-far-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.authority = Authority(self.folder)
        self.wire = Wire(int((self.engine.folder / "pid").read_text()), os.getpid() + 1)
        self.addCleanup(self.wire.cut)

    def start(self, *more: str) -> Daemon:
        daemon = Daemon(flags=[*flags(self.authority.sign("daemon", f"IP:{self.wire.here}")), "--listen", f"{self.wire.here}:0", *more],
                        ca=self.authority.certificate)
        self.addCleanup(daemon.close)
        daemon.start()
        daemon.ctl("register-orchestrator", "docker", "--flavor", "local_docker", "--config", f"host={self.engine.address}",
                   "--config", "image=orch-test", "--config", "network=bridge", "--config", "pull=never")
        return daemon

    def test_a_step_publishes_and_says_that_it_is_alive(self) -> None:
        with socket.socket() as probe:
            probe.bind((self.wire.here, 0))
            port = probe.getsockname()[1]
        address = f"{self.wire.here}:{port}"
        daemon = self.start("--http-listen", address, "--step-endpoint", f"https://{address}", "--step-ca", str(self.authority.certificate))
        run = daemon.submit("""name: far
steps:
  - name: a
    heartbeat: 600s
    outputs: {o: {}}
    command:
      - sh
      - -c
      - 'env; echo early > $ORCH_OUTPUT_O; orch-launch heartbeat && orch-launch publish o && while ! [ -e $ORCH_SCRATCH/go ]; do sleep 0.1; done'
  - {name: b, orchestrator: local, command: [cat, "${inputs.o}"], inputs: {o: {from: a.o, early: true}}}
""", "--orchestrator", "docker")
        wait_for("the early reader", lambda: daemon.steps(run)["b"]["state"] == "SUCCEEDED", 120)
        self.assertEqual(daemon.ctl("logs", run, "b").stdout, "early\n")
        seen = daemon.ctl("logs", run, "a").stdout
        self.assertIn(f"ORCH_ENDPOINT=https://{address}\n", seen)
        self.assertIn("ORCH_CA=/", seen)
        self.assertEqual(daemon.steps(run)["a"]["state"], "RUNNING")
        container = self.engine.containers()[0]
        self.assertEqual(container["HostConfig"]["NetworkMode"], "bridge")
        daemon.ctl("cancel-run", run, "--force")
        daemon.ctl("wait-run", run, code=5)

    def test_without_an_endpoint_it_gets_the_socket_that_needs_a_token(self) -> None:
        daemon = self.start("--http-listen", f"{self.wire.here}:0")
        run = daemon.submit("name: p\nsteps:\n  - {name: a, command: [env]}\n", "--orchestrator", "docker")
        daemon.ctl("wait-run", run)
        seen = daemon.ctl("logs", run, "a").stdout
        self.assertIn("ORCH_ENDPOINT=unix:", seen)
        self.assertNotIn("ORCH_CA", seen)


if __name__ == "__main__":
    unittest.main()
