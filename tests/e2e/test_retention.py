"""What is old goes only when it is asked for, and only if nothing needs it."""
import json
import signal
import unittest
from typing import Any

import grpc

from tests.lib.api import Api, message
from tests.lib.daemon import Daemon, files_below, wait_for

MAKES = """
name: makes
steps:
  - {{name: plain, command: [sh, -c, 'echo said; head -c 100000 /dev/urandom > "$ORCH_OUTPUT_T"'], outputs: {{t: {{type: bin}}}}}}
  - {{name: named, command: [sh, -c, 'head -c 100000 /dev/urandom > "$ORCH_OUTPUT_T"'], outputs: {{t: {{type: bin, as: keeper}}}}, after: [plain]}}
  - {{name: cached, command: [sh, -c, 'echo {number}; head -c 100000 /dev/urandom > "$ORCH_OUTPUT_T"'], outputs: {{t: {{type: bin}}}}, cache: {{enabled: true}}, after: [named]}}
"""
ALL = [f"--{kind}-max-age=1ms" for kind in ("cache", "artifacts", "runs", "logs", "events")]


class Retention(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.daemon.start()

    def make(self, number: int = 1) -> str:
        return self.daemon.submit(MAKES.format(number=number), "--name", f"makes-{number}", "--wait")

    def prune(self, *args: str) -> dict[str, Any]:
        return {group["kind"]: group for group in self.daemon.json("prune", *args)["groups"]}

    def artifacts(self) -> list[str]:
        return sorted(f"{a['name']}@{a['version']}" for a in self.daemon.json("list-artifacts", "--limit", "1000")["artifacts"])

    def test_nothing_goes_by_default_or_without_yes(self) -> None:
        self.make()
        self.assertEqual(self.prune(), {})
        self.assertEqual(self.prune("--yes"), {})
        shown = self.prune(*ALL)
        self.assertEqual({kind: group["count"] for kind, group in shown.items()},
                         {"CACHE": 1, "ARTIFACTS": 2, "RUNS": 1, "LOGS": 0, "EVENTS": shown["EVENTS"]["count"]})
        self.assertEqual(shown["ARTIFACTS"]["names"], ["makes.cached.t@1", "makes.plain.t@1"])
        shown = self.prune(*ALL[1:])
        self.assertEqual(shown["RUNS"]["names"], ["makes-1"])
        self.assertEqual(shown["ARTIFACTS"]["names"], ["makes.plain.t@1"])
        self.assertEqual({kept["name"]: kept["by"] for kept in shown["ARTIFACTS"]["kept"]},
                         {"keeper@1": "its own name", "makes.cached.t@1": "a cache entry"})
        self.assertEqual(len(self.artifacts()), 3)
        self.assertEqual(self.daemon.state("makes-1"), "SUCCEEDED")
        self.assertIn("nothing was deleted", self.daemon.ctl("prune", *ALL).stderr)

    def test_each_by_its_rule(self) -> None:
        for number in (1, 2, 3):
            self.make(number)
        blobs = [path for path in (self.daemon.data / "blobs").rglob("*") if path.is_file()]
        done = self.prune("--artifacts-max-count", "1", "--yes")["ARTIFACTS"]
        self.assertEqual(sorted(done["names"]), ["makes.plain.t@1", "makes.plain.t@2"])
        self.assertEqual(done["kept_count"], 4)  # keeper@1, 2 and makes.cached.t@1, 2
        self.assertNotIn("makes.plain.t@1", self.artifacts())
        wait_for("the bytes to go", lambda: len(files_below(self.daemon.data / "blobs")) == len(blobs) - 2)
        self.assertEqual(self.prune("--cache-max-count", "2", "--yes")["CACHE"]["names"], ["makes-1 cached"])
        self.assertEqual(self.prune("--artifacts-max-size", "150000")["ARTIFACTS"]["names"], ["makes.plain.t@3", "makes.cached.t@1"])
        logs = self.prune("--logs-max-count", "1", "--yes")["LOGS"]
        self.assertEqual(logs["names"], ["makes-2", "makes-1"])
        self.assertEqual(self.daemon.ctl("logs", "makes-1", "plain").stdout, "")
        self.assertEqual(self.daemon.ctl("logs", "makes-3", "plain").stdout, "said\n")
        self.assertEqual(self.prune("--runs-max-count", "2", "--yes")["RUNS"]["names"], ["makes-1"])
        self.daemon.ctl("get-run", "makes-1", code=3)
        self.assertEqual(self.prune("--runs-max-size", "350K")["RUNS"]["names"], ["makes-2"])
        # What is left answers as before, also after a kill.
        self.daemon.restart(signal.SIGKILL)
        self.assertEqual([run["name"] for run in self.daemon.json("list-runs")["runs"]], ["makes-3", "makes-2"])
        again = self.daemon.submit(MAKES.format(number=3), "--name", "again", "--wait")
        self.assertEqual(self.daemon.steps(again)["cached"]["state"], "CACHED")

    def test_a_retry_makes_again_what_was_pruned(self) -> None:
        fixed = self.daemon.home / "fixed"
        run = "again"
        self.daemon.submit(f"""
name: again
steps:
  - {{name: prep, foreach: {{i: [a, b, c]}}, command: [sh, -c, 'echo "${{item.i}}" > "$ORCH_OUTPUT_T"'], outputs: {{t: {{}}}}}}
  - {{name: train, command: [sh, -c, 'cat "$ORCH_INPUT_TS"/0*; test -e {fixed}'], inputs: {{ts: 'prep[*].t'}}}}
""", "--name", run, "--wait", code=1)
        self.assertEqual(self.prune("--artifacts-max-age", "1ms", "--yes")["ARTIFACTS"]["count"], 3)
        fixed.touch()
        self.daemon.ctl("retry-run", run, "--wait")
        self.assertEqual(self.daemon.ctl("logs", run, "train", "--stream", "stdout").stdout, "a\nb\nc\n", "a fan-in is whole or is not begun")
        self.assertEqual({int(step["attempt"]) for step in self.daemon.steps(run).values()}, {2})

    def test_a_live_run_keeps_what_it_has(self) -> None:
        held = self.daemon.home / "held"
        run = self.daemon.submit(f"""
name: live
steps:
  - {{name: a, command: [sh, -c, 'echo hello; echo x > "$ORCH_OUTPUT_T"'], outputs: {{t: {{type: text}}}}}}
  - {{name: b, command: [sh, -c, 'until test -e {held}; do sleep 0.02; done'], after: [a]}}
  - {{name: c, command: [sh, -c, 'cat "$ORCH_INPUT_T"'], inputs: {{t: a.t}}, after: [b]}}
""")
        wait_for("b to run", lambda: self.daemon.steps(run)["b"]["state"] == "RUNNING")
        done = self.prune(*ALL, "--yes")
        self.assertEqual((done["RUNS"]["count"], done["LOGS"]["count"], done["ARTIFACTS"]["count"]), (0, 0, 0))
        self.assertIn("has not ended", done["ARTIFACTS"]["kept"][0]["by"])
        held.touch()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "c").stdout, "x\n")

    def test_the_compaction_mark_moves_and_the_sequence_does_not(self) -> None:
        self.make()
        with Api(self.daemon) as api:
            stream = api.stream("RunService.WatchRuns", message("WatchRunsRequest"))
            next(stream)
            old = next(api.stream("RunService.WatchRuns", message("WatchRunsRequest"))).resume_token
            run = self.make(2)
            last = int(self.daemon.json("get-run", run)["last_sequence"])
            self.assertGreater(self.prune("--events-max-age", "1ms", "--yes")["EVENTS"]["count"], 0)
            self.assertEqual(self.daemon.json("list-events", "--all")["events"], [])
            with self.assertRaises(grpc.RpcError) as refused:
                next(api.stream("RunService.WatchRuns", message("WatchRunsRequest", resume_token=old)))
            self.assertEqual(refused.exception.code(), grpc.StatusCode.OUT_OF_RANGE)
            stream.cancel()
        self.daemon.restart(signal.SIGKILL)
        self.make(3)
        first = self.daemon.json("list-events", "--limit", "1")["events"][0]
        self.assertEqual(first["sequence"], last + 1)
        status, text = self.daemon.http("/orch.v1.RunService/ListEvents", {"after_sequence": 1})
        self.assertEqual((status, json.loads(text)["code"]), (400, "out_of_range"))

    def test_what_is_refused(self) -> None:
        for rules in ([{"kind": "RUNS"}], [{"max_count": 3}], [{"kind": "RUNS", "max_count": -1}],
                      [{"kind": "RUNS", "max_count": 1}, {"kind": "RUNS", "max_bytes": 1}],
                      [{"kind": "LOGS", "max_age": "-3s"}], [{"kind": "RUNS", "max_count": 1}] * 6):
            status, text = self.daemon.http("/orch.v1.AdminService/Prune", {"rules": rules})
            self.assertEqual(status, 400, (rules, text))
        self.daemon.ctl("prune", "--runs-max-size", "much", code=2)
        self.daemon.ctl("prune", "--yes", "--dry-run", code=2)

    def test_the_daemon_applies_its_own_rules(self) -> None:
        self.make()
        self.daemon.config = "retention: {every: 60s, logs: {max_age: 1s}, runs: {max_count: 1, max_size: 10Gi}}\n"
        self.daemon.restart()
        self.make(2)
        self.assertEqual(self.prune()["RUNS"]["names"], ["makes-1"])
        self.assertEqual(self.prune("--yes")["RUNS"]["names"], ["makes-1"])
        self.daemon.ctl("get-run", "makes-1", code=3)
        for wrong in ("retention: {runs: {max_age: soon}}", "retention: {every: 1s}", "retention: {steps: {max_count: 1}}",
                      "retention: {runs: {max_count: 0}}"):
            self.daemon.config = wrong + "\n"
            self.assertIn(self.checked(), (1, 2), wrong)

    def checked(self) -> int:
        import subprocess
        (self.daemon.home / "orchd.yaml").write_text(self.daemon.config)
        return subprocess.run([*self.daemon.command(), "--check-config"], capture_output=True, check=False).returncode


if __name__ == "__main__":
    unittest.main()
