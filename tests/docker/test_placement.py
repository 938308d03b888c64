"""Steps of one run on this machine, in a container, and on the fake platform; what a check says of an engine."""
from __future__ import annotations

import unittest

from tests.lib.daemon import Daemon, wait_for
from tests.lib.engine import Engine, shared_engine


class DockerPlacement(unittest.TestCase):
    engine: Engine

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = shared_engine()

    def setUp(self) -> None:
        self.daemon = Daemon("flavors: {fake: true}\n")
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.daemon.ctl("register-orchestrator", "docker", "--flavor", "local_docker", "--config", f"host={self.engine.address}",
                        "--config", "image=orch-test", "--config", "network=none", "--config", "pull=never")
        self.daemon.ctl("register-orchestrator", "fake", "--flavor", "fake", "--config", "output=three")

    def test_one_run_on_three(self) -> None:
        steps = self.daemon.run("""name: three
steps:
  - {name: here, command: [sh, -c, 'echo one > $ORCH_OUTPUT_X'], outputs: {x: {}}}
  - name: container
    orchestrator: docker
    command: [sh, -c, 'cat $ORCH_INPUT_X > $ORCH_OUTPUT_Y; echo two >> $ORCH_OUTPUT_Y']
    inputs: {x: here.x}
    outputs: {y: {}}
  - {name: nowhere, orchestrator: fake, command: [x], inputs: {y: container.y}, outputs: {z: {}}}
  - {name: back, command: [sh, -c, 'cat $ORCH_INPUT_Y $ORCH_INPUT_Z'], inputs: {y: container.y, z: nowhere.z}}
""")
        self.assertEqual({s["state"] for s in steps.values()}, {"SUCCEEDED"}, steps)
        run = self.daemon.json("list-runs")["runs"][0]["name"]
        self.assertEqual(self.daemon.ctl("logs", run, "back").stdout, "one\ntwo\nthree")

    def test_a_check(self) -> None:
        said = self.daemon.ctl("check-orchestrator", "docker").stdout
        self.assertIn("Docker ", said)
        self.assertIn("orch-test is there", said)
        self.daemon.ctl("register-orchestrator", "missing", "--flavor", "local_docker", "--config", f"host={self.engine.address}",
                        "--config", "image=no-such-image", "--config", "pull=never")
        said = self.daemon.ctl("check-orchestrator", "missing", code=8).stdout
        self.assertIn("docker pull no-such-image", said)
        self.engine.kill()
        said = self.daemon.ctl("check-orchestrator", "docker", code=8).stdout
        self.assertIn("no Docker engine listens at", said)
        self.assertIn("start an engine there", said)
        wait_for("get-orchestrator to say so",
                 lambda: self.daemon.json("get-orchestrator", "docker")["health"]["state"] == "UNREACHABLE")
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n", "--orchestrator", "docker")
        wait_for("why to say so", lambda: "cannot be reached" in self.daemon.ctl("why", run, "a").stdout)
        self.engine.up()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.json("get-orchestrator", "docker")["health"]["state"], "HEALTHY")
        self.daemon.ctl("check-orchestrator", "docker")


if __name__ == "__main__":
    unittest.main()
