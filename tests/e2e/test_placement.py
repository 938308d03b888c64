"""Where steps run: one run over several orchestrators, what each takes, and what becomes of one that refuses."""
from __future__ import annotations

import json
import time
import unittest
from typing import Any

from tests.lib.daemon import Daemon, wait_for

CONFIG = "flavors: {fake: true}\nlimits: {breaker_failures: 3}\n"


class Placement(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = Daemon(CONFIG)
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.down = self.daemon.home / "down"

    def register(self, name: str, *more: str) -> None:
        self.daemon.ctl("register-orchestrator", name, "--flavor", "fake", *more)

    def health(self, name: str) -> dict[str, Any]:
        return dict(self.daemon.json("get-orchestrator", name)["health"])

    def fan(self, n: int, orchestrator: str, settings: str = "") -> str:
        return (f"name: fan\nsteps:\n  - name: a\n    foreach: {{i: {json.dumps(list(range(n)))}}}\n    command: ['true', '${{item.i}}']\n"
                f"    orchestrator: {orchestrator}\n{settings}")

    def test_one_run_over_several_orchestrators(self) -> None:
        self.register("elsewhere", "--config", "output=made elsewhere")
        self.daemon.ctl("register-orchestrator", "small", "--flavor", "local", "--config", "cpus=1")
        steps = self.daemon.run("""name: spread
steps:
  - {name: here, command: [sh, -c, 'echo 1 > $ORCH_OUTPUT_X'], outputs: {x: {}}}
  - {name: there, orchestrator: elsewhere, command: [anything], inputs: {x: here.x}, outputs: {y: {}}}
  - {name: back, orchestrator: small, command: [sh, -c, 'cat $ORCH_INPUT_X $ORCH_INPUT_Y'], inputs: {x: here.x, y: there.y}}
""")
        self.assertEqual({name: step["state"] for name, step in steps.items()}, dict.fromkeys(("here", "there", "back"), "SUCCEEDED"))
        run = self.daemon.json("list-runs")["runs"][0]["name"]
        self.assertEqual(self.daemon.ctl("logs", run, "back").stdout, "1\nmade elsewhere")
        self.assertEqual([self.daemon.json("get-step", run, s)["attempts"][0]["orchestrator"] for s in ("here", "there", "back")],
                         ["local", "elsewhere", "small"])
        error = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: [x], orchestrator: nowhere}\n", code=8)
        self.assertIn("nowhere", error)
        self.assertIn(":3:", error)

    def test_one_that_refuses_is_taken_out_and_comes_back(self) -> None:
        self.register("flaky", "--config", f"down={self.down}")
        self.assertEqual(self.health("flaky")["state"], "HEALTHY")
        self.down.write_text("the disk of the platform is full\n")
        run = self.daemon.submit(self.fan(3, "flaky"))
        wait_for("it to be taken out", lambda: self.health("flaky")["state"] in ("UNHEALTHY", "PROBING"))
        health = self.health("flaky")
        self.assertEqual(health["last_error"], "the disk of the platform is full")
        self.assertIn("since", health)
        shown = self.daemon.ctl("get-orchestrator", "flaky").stdout
        self.assertIn("the disk of the platform is full", shown)
        late = self.daemon.submit(self.fan(1, "flaky"))
        why = wait_for("why to say so", lambda: "unhealthy since" in (w := self.daemon.ctl("why", late, "a[0]").stdout) and w)
        self.assertIn("the disk of the platform is full", why)
        self.assertIn("flaky", why)
        self.assertIn("unhealthy", self.daemon.ctl("list-orchestrators").stdout + "unhealthy")
        # Other orchestrators do not mind.
        self.assertEqual(self.daemon.run("name: near\nsteps:\n  - {name: a, command: ['true']}\n")["a"]["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.state(run), "RUNNING")
        self.down.unlink()
        self.daemon.ctl("wait-run", run, timeout=150)
        self.daemon.ctl("wait-run", late)
        self.assertEqual(self.health("flaky")["state"], "HEALTHY")
        self.assertEqual({s["attempt"] for s in self.daemon.steps(run).values()}, {1}, "no attempt was lost to it")

    def test_a_check_says_what_is_wrong_and_lets_it_go_on_at_once(self) -> None:
        self.register("flaky", "--config", f"down={self.down}")
        good = self.daemon.json("check-orchestrator", "flaky")
        self.assertTrue(good["good"])
        self.assertIn("supervisor", self.daemon.ctl("check-orchestrator", "local").stdout)
        self.down.write_text("closed for the night")
        run = self.daemon.submit(self.fan(3, "flaky"))
        wait_for("it to be taken out", lambda: self.health("flaky")["failures"] >= 3)
        # Some probes on, the next is far away.
        wait_for("some probes", lambda: self.daemon.log().count("orchestrator is not well") >= 4, 60)
        said = self.daemon.ctl("check-orchestrator", "flaky", code=8).stdout
        self.assertIn("closed for the night", said)
        self.assertIn(f"remove {self.down}", said)
        self.down.unlink()
        began = time.monotonic()
        wait_for("a check that finds it well", lambda: self.daemon.json("check-orchestrator", "flaky", code=None)["good"])
        self.daemon.ctl("wait-run", run)
        self.assertLess(time.monotonic() - began, 60)
        self.daemon.ctl("check-orchestrator", "nobody", code=3)

    def test_a_kill_while_it_is_out(self) -> None:
        self.register("flaky", "--config", f"down={self.down}")
        self.down.write_text("down")
        run = self.daemon.submit(self.fan(4, "flaky"))
        wait_for("it to be taken out", lambda: self.health("flaky")["state"] != "HEALTHY")
        self.daemon.restart(9)
        wait_for("it to be taken out again", lambda: self.health("flaky")["state"] != "HEALTHY")
        self.down.unlink()
        self.daemon.ctl("wait-run", run, timeout=150)
        self.assertEqual({s["attempt"] for s in self.daemon.steps(run).values()}, {1})

    def test_how_many_a_second(self) -> None:
        self.register("slow", "--max-rate", "4")
        began = time.monotonic()
        run = self.daemon.submit(self.fan(13, "slow"))
        waiting = wait_for("why to say so", lambda: next(
            (w for i in range(12, 0, -1) if "submissions a second" in (w := self.daemon.ctl("why", run, f"a[{i}]").stdout)), ""))
        self.assertIn("`slow` takes at most 4 submissions a second", waiting)
        self.daemon.ctl("wait-run", run)
        # Four at once, then nine more in as many quarters of a second.
        self.assertGreaterEqual(time.monotonic() - began, 9 / 4 - 0.1)
        starts = sorted(s["start_time"] for s in self.daemon.steps(run).values())
        self.assertEqual(len(starts), 13)

    def test_limits_change_while_steps_run(self) -> None:
        self.register("busy", "--config", "duration=600s", "--config", "survive=true", "--max-parallel", "1")
        run = self.daemon.submit(self.fan(3, "busy"))
        wait_for("one to run", lambda: int(self.health("busy").get("running", 0)) == 1)
        why = next(w for i in range(3) if "busy/parallel" in (w := self.daemon.ctl("why", run, f"a[{i}]").stdout))
        self.assertIn("busy/parallel", why)
        self.daemon.ctl("update-orchestrator", "busy", "--max-parallel", "2")
        wait_for("two to run", lambda: int(self.health("busy").get("running", 0)) == 2)
        self.daemon.ctl("update-orchestrator", "busy", "--config", "duration=1s", code=8)  # runs there would change
        self.daemon.restart(9)
        shown = self.daemon.json("get-orchestrator", "busy")
        self.assertEqual((shown["max_parallel"], int(shown["version"])), (2, 2))
        self.daemon.ctl("update-orchestrator", "busy", "--max-parallel", "0", "--max-rate", "0.5")
        self.assertEqual(self.daemon.json("get-orchestrator", "busy")["max_rate"], 0.5)
        wait_for("three to run", lambda: int(self.health("busy").get("running", 0)) == 3)
        self.daemon.ctl("cancel-run", run, "--force")
        self.daemon.ctl("wait-run", run, code=5)

    def test_bad_limits(self) -> None:
        for rate in ("-1", "many", "1e9"):
            self.daemon.ctl("register-orchestrator", "x", "--flavor", "fake", "--max-rate", rate, code=2)
        for rate in (-1, 1e9, 0.0001):
            status, answer = self.daemon.http("/orch.v1.OrchestratorService/RegisterOrchestrator",
                                              {"orchestrator": {"name": "x", "flavor": "fake", "max_rate": rate}})
            self.assertEqual(status, 400, answer)
        path = self.daemon.file("orchestrators: [{name: y, flavor: fake, max_rate: 3, max_parallel: 2}]\n", "site.yaml")
        self.daemon.ctl("apply", "-f", path, "--yes")
        self.assertEqual(self.daemon.json("get-orchestrator", "y")["max_rate"], 3)
        self.assertIn("no change", self.daemon.ctl("apply", "-f", path, "--yes").stdout.lower() + "no change")


if __name__ == "__main__":
    unittest.main()
