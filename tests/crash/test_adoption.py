"""What a restarted daemon must know of a step that it did not start."""
import json
import os
import signal
import unittest

from tests.lib.daemon import Daemon, wait_for


class Adoption(unittest.TestCase):
    def test_an_adopted_step_may_publish_early(self) -> None:
        with Daemon() as daemon:
            begun, gate = daemon.home / "begun", daemon.home / "gate"
            script = (f"echo v > ${{outputs.x}}; touch {begun}; while [ ! -e {gate} ]; do sleep 0.02; done; "
                      "orch-launch publish x")
            name = daemon.submit("name: p\nsteps:\n  - name: a\n    command: [sh, -c, " + json.dumps(script) + "]\n"
                                 "    outputs: {x: {}}\n")
            wait_for("the step", begun.exists)
            daemon.restart(signal.SIGKILL)
            gate.touch()
            daemon.ctl("wait-run", name)
            artifacts = daemon.json("list-artifacts", "--run", name, "--all")["artifacts"]
            self.assertEqual([a.get("early", False) for a in artifacts], [True])

    def test_an_end_while_the_daemon_starts_is_not_missed(self) -> None:
        """It is told after the supervisor's greeting and before the adoption, which a large database puts far apart."""
        with Daemon() as daemon:
            begun, gate = daemon.home / "begun", daemon.home / "gate"
            name = daemon.submit("name: p\nsteps:\n  - name: a\n    command: [sh, -c, "
                                 f"'echo $$$$ > {begun}; while [ ! -e {gate} ]; do sleep 0.02; done']\n")
            wait_for("the step", lambda: begun.exists() and begun.read_text().endswith("\n"))
            daemon.kill(signal.SIGKILL)
            daemon.faults = "start.before_adopt=stall:1000"
            daemon.launch()
            wait_for("the start to stall", lambda: "fault start.before_adopt" in daemon.log())
            gate.touch()
            daemon.wait_serving()
            daemon.ctl("wait-run", name, timeout=20)
            self.assertFalse(os.path.exists(f"/proc/{int(begun.read_text())}"))


if __name__ == "__main__":
    unittest.main()
