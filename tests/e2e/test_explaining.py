"""why, plan and diff-runs by the real binaries."""
import json
import signal
import unittest
from typing import Any

from tests.lib.daemon import Daemon, wait_for


class Explaining(unittest.TestCase):
    daemon: Daemon

    def setUp(self) -> None:
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.daemon.ctl("apply", "-f", self.daemon.file("orchestrators: [{name: one, flavor: local, config: {cpus: 1}}]\n", "site.yaml"), "--yes")
        self.gate = self.daemon.home / "gate"
        self.until_gate = f"while [ ! -e {self.gate} ]; do sleep 0.02; done"

    def why(self, *args: str) -> dict:
        return self.daemon.json("why", *args)

    def wait_state(self, run: str, step: str, state: str) -> None:
        wait_for(f"{step} of {run} to be {state}", lambda: self.daemon.steps(run)[step]["state"] == state)

    def test_waiting_for_inputs_slots_and_time(self) -> None:
        run = self.daemon.submit(f"""
name: waits
steps:
  - name: first
    command: [sh, -c, '{self.until_gate}; echo 1 > ${{outputs.x}}']
    outputs: {{x: {{}}}}
    timeout: {{run: 10m}}
  - name: second
    command: ['true']
  - name: third
    command: [cat, '${{inputs.x}}']
    inputs: {{x: first.x}}
  - name: flaky
    command: ['false']
    resources: {{cpu: 0}}
    retry: {{max_attempts: 2, backoff: {{initial: 10m, max: 10m}}}}
""", "--orchestrator", "one")
        self.wait_state(run, "first", "RUNNING")
        self.wait_state(run, "flaky", "BACKOFF")
        first = self.why(run, "first")
        self.assertIn("attempt 1 runs on `one`", first["summary"])
        self.assertTrue(first["causes"][0]["until"])
        second = self.why(run, "second")
        self.assertEqual(second["causes"][0]["reason"], "WAITING_FOR_SLOT")
        self.assertEqual((second["causes"][0]["pool"], second["causes"][0]["wanted"], second["causes"][0]["capacity"]),
                         ("one/cpu", 1000, 1000))
        self.assertEqual(second["causes"][0]["holders"][0]["step"], "first")
        third = self.why(run, "third")
        self.assertEqual((third["causes"][0]["input"], third["causes"][0]["step"], third["causes"][0]["step_state"]),
                         ("x", "first", "RUNNING"))
        flaky = self.why(run, "flaky")
        self.assertEqual(flaky["causes"][0]["reason"], "BACKOFF_BEFORE_RETRY")
        self.assertTrue(flaky["causes"][0]["until"])
        self.assertEqual(flaky["failures"][0]["exit_code"], 1)
        self.assertIn("max_attempts is 2", flaky["failures"][0]["then"])
        whole = self.why(run)
        self.assertIn("RUNNING", whole["summary"])
        self.assertIn("second", {step["step"] for step in whole["steps"]})
        # The same after kill -9: it follows from what is stored.
        self.daemon.restart(signal.SIGKILL)
        wait_for("the holder to be known again",
                 lambda: [h["step"] for c in self.why(run, "second")["causes"] for h in c.get("holders", [])] == ["first"])
        self.assertEqual(self.why(run, "flaky")["causes"][0]["reason"], "BACKOFF_BEFORE_RETRY")
        self.daemon.ctl("cancel-run", run, "--force")

    def test_ended_steps(self) -> None:
        run = self.daemon.submit("""
name: ends
steps:
  - name: bad
    command: [sh, -c, 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "line $i" >&2; done; exit 3']
    retry: {max_attempts: 2, backoff: {initial: 1ms}}
  - name: killed
    command: [sh, -c, 'kill -9 $$$$']
  - name: after
    command: ['true']
    after: [bad, fine]
  - name: fine
    command: ['true']
  - name: alarm
    command: ['true']
    after: [fine]
    trigger_rule: one_failed
""")
        self.daemon.ctl("wait-run", run, code=1)
        bad = self.why(run, "bad")
        self.assertIn("`bad` failed after 2 attempts: exit code 3", bad["summary"])
        self.assertEqual([f["attempt"] for f in bad["failures"]], [1, 2])
        self.assertIn("tried again", bad["failures"][0]["then"])
        self.assertIn("not tried again: max_attempts is 2", bad["failures"][1]["then"])
        self.assertEqual(bad["failures"][1]["last_lines"], [f"line {i}" for i in range(3, 13)])
        killed = self.why(run, "killed")
        self.assertEqual(killed["failures"][0]["signal"], 9)
        self.assertRegex(killed["summary"], r"failed: ended by signal 9 \(Killed\)$")
        after = self.why(run, "after")
        self.assertIn("its rule `all_success` was not met", after["summary"])
        self.assertEqual((after["causes"][0]["step"], after["causes"][0]["step_state"]), ("bad", "FAILED"))
        self.assertIn("its rule `one_failed` was not met", self.why(run, "alarm")["summary"])
        self.assertEqual(self.why(run, "fine")["cache"]["outcome"], "NOT_ENABLED")
        whole = self.daemon.ctl("why", run).stdout
        self.assertIn("exit code 3", whole)
        self.assertIn(f"orchctl why {run} bad\n", whole)
        page = self.daemon.http(f"/runs/{run}/steps/bad/log")[1].decode()
        self.assertIn("failed after 2 attempts: exit code 3", page)
        self.assertEqual(self.daemon.ctl("why", run, "nope", code=3).stdout, "")

    def test_plan_refuses_what_submit_refuses(self) -> None:
        text = "name: p\nsteps:\n  - {name: a, command: ['true'], when: '1 >'}\n  - {name: b, command: ['true'], after: [c]}\n"
        refused = self.daemon.ctl("submit", self.daemon.file(text), code=8).stderr
        planned = self.daemon.ctl("plan", self.daemon.file(text), code=8).stderr
        for words in ("syntax error", "`c`"):
            self.assertIn(words, refused)
            self.assertIn(words, planned)

    def test_plan(self) -> None:
        text = """
name: planned
parameters: {n: 1}
steps:
  - name: a
    command: [sh, -c, 'sleep 0.2; echo ${params.n} > ${outputs.x}']
    outputs: {x: {}}
    cache: {enabled: true}
  - name: b
    command: [sh, -c, 'sleep 0.1; cat ${inputs.x} > ${outputs.x}']
    inputs: {x: a.x}
    outputs: {x: {}}
    cache: {enabled: true}
  - name: c
    foreach: {i: [1, 2, 3]}
    command: [sleep, '0.1']
"""
        file = self.daemon.file(text)
        fresh = self.daemon.json("plan", file)
        self.assertEqual((fresh["run_steps"], fresh["depending_steps"], fresh["cached_steps"]), (4, 1, 0))
        self.assertNotIn("expected", {k: v for k, v in fresh.items() if v})
        self.daemon.run(text, "--name", "planned-1", "--orchestrator", "one")
        again = self.daemon.json("plan", file, "--orchestrator", "one")
        by_name = {step["name"]: step for step in again["steps"]}
        self.assertEqual((by_name["a"]["action"], by_name["a"]["cached_from"]), ("CACHED", "planned-1"))
        self.assertEqual(by_name["b"]["action"], "CACHED")
        self.assertEqual(by_name["c[0]"]["action"], "RUN")
        seconds = float(again["expected"].rstrip("s"))
        self.assertGreater(seconds, 0.25)  # three of 0.1 s on one CPU, from when each was seen to run
        self.assertLess(seconds, 5)
        changed = self.daemon.json("plan", file, "-p", "n=2", "--orchestrator", "one")
        by_name = {step["name"]: step for step in changed["steps"]}
        self.assertEqual(by_name["a"]["action"], "RUN")
        self.assertEqual(by_name["a"]["compared_with"], "planned-1")
        self.assertIn("params.n", {c["part"] for c in by_name["a"]["changes"]})
        self.assertEqual(by_name["b"]["action"], "DEPENDS")
        self.assertEqual(changed["critical_path"], ["a", "b"])
        self.assertIn("would run", self.daemon.ctl("plan", file, "--orchestrator", "one").stdout)
        self.assertEqual(len(self.daemon.json("list-runs")["runs"]), 1)  # nothing was started
        broken = self.daemon.ctl("plan", self.daemon.file("name: x\nsteps:\n  - name: a\n    command: ['true']\n    after: [z]\n"), code=8)
        self.assertIn(":5:", broken.stderr)

    def test_plan_of_a_fan_out_made_at_run_time(self) -> None:
        file = self.daemon.file("""
name: planned-list
steps:
  - {name: list, command: [sh, -c, 'echo [1,2,3] > ${outputs.xs}'], outputs: {xs: {value: true}}}
  - {name: each, foreach: {k: {from: list.xs}}, command: [sh, -c, 'sleep 0.2; echo ${item.k} > ${outputs.y}'], outputs: {y: {}}}
  - {name: also, foreach: {k: {from: list.xs}}, inputs: {y: 'each[item].y'}, command: [sleep, '0.2']}
  - {name: all, inputs: {ys: 'each[*].y'}, after: [also], command: ['true']}
""")
        def of_each(plan: dict[str, Any]) -> str:
            return next(str(s["text"]) for s in plan["steps"] if s["name"] == "each")

        self.assertTrue(of_each(self.daemon.json("plan", file)).endswith("have landed"))
        self.daemon.ctl("submit", file, "--wait")
        plan = self.daemon.json("plan", file)
        self.assertEqual(plan["step_count"], 4)
        self.assertEqual({s["name"] for s in plan["steps"]}, {"list", "each", "also", "all"}, "what nobody knows is not listed")
        self.assertTrue(of_each(plan).endswith("by the runs before there will be 3"), of_each(plan))
        self.assertGreater(float(plan["expected"].rstrip("s")), 0.4)
        self.assertTrue({"each[0]", "each[1]", "each[2]"} & set(plan["critical_path"]), plan["critical_path"])

    def test_a_chain_of_skipped_steps_names_where_it_began(self) -> None:
        run = self.daemon.submit("""
name: chain
steps:
  - {name: a, command: [sh, -c, 'echo 1 > ${outputs.v}'], outputs: {v: {value: true}}}
  - {name: b, after: [a], when: '.a.v > 5', command: ['true']}
  - {name: c, after: [b], command: ['true']}
  - {name: d, after: [c], command: ['true']}
""")
        self.daemon.ctl("wait-run", run)
        self.assertIn("it comes after `b` (SKIPPED): WHEN_FALSE, `.a.v > 5` is false", self.daemon.ctl("why", run, "c").stdout)
        last = self.daemon.ctl("why", run, "d").stdout
        self.assertIn("it began with `b` (SKIPPED): WHEN_FALSE, `.a.v > 5` is false", last)
        causes = self.daemon.json("why", run, "d")["causes"]
        self.assertEqual([(c["step"], c["reason"]) for c in causes], [("c", "UPSTREAM_SKIPPED"), ("b", "WHEN_FALSE")])

    def test_the_page_is_named_once_and_a_retry_counts_its_own_time(self) -> None:
        gate = self.daemon.home / "gate"
        file = self.daemon.file(f"name: once\nsteps:\n  - {{name: a, command: [sh, -c, 'test -e {gate}']}}\n")
        done = self.daemon.ctl("submit", file, "--name", "once", "--wait", code=1)
        self.assertEqual((done.stdout + done.stderr).count("/runs/"), 1)
        first = self.daemon.json("get-run", "once")
        gate.touch()
        self.daemon.ctl("retry-run", "once", "--wait")
        run = self.daemon.json("get-run", "once")
        self.assertGreaterEqual(run["start_time"], first["end_time"], "of this generation")
        self.assertEqual(run["earlier_generations"][0]["start_time"], first["start_time"])

    def test_items_and_what_retry_run_did(self) -> None:
        ready = self.daemon.home / "ready"
        file = self.daemon.file(f"""
name: items
steps:
  - name: a
    foreach: {{town: [oulu, pisa], day: [1, 2]}}
    command: [sh, -c, 'test ${{item.day}} = 1 || test -e {ready}', '${{item.town}}']
    cache: {{enabled: true, key: mine}}
""")
        submitted = self.daemon.ctl("submit", file, "--name", "items", "--wait", code=1)
        self.assertNotIn("warning", submitted.stderr)  # its author has a key
        self.assertIn("a[1] (day=2, town=oulu) FAILED EXIT_CODE 1\n", submitted.stderr)
        self.assertEqual(submitted.stderr.count("1 step failed"), 0)
        why = self.why("items", "a[3]")
        self.assertEqual(why["item"], {"town": "pisa", "day": 2})
        self.assertEqual(why["failures"][0]["text"], "exit code 1")
        whole = self.why("items")
        self.assertEqual(whole["causes"][0]["text"], "`a[1]` failed: exit code 1")
        self.assertEqual([step["item"]["town"] for step in whole["steps"]], ["oulu", "pisa"])
        self.assertRegex(self.daemon.ctl("list-steps", "items").stdout, r"a\[1\] +FAILED +1 +\S+ +day=2, town=oulu +EXIT_CODE 1\n")
        self.assertRegex(self.daemon.ctl("get-step", "items", "a[1]").stdout, r"Item: +day=2, town=oulu\n")
        self.assertIsNotNone(self.daemon.json("plan", file, "--no-cache").get("expected"))  # of what succeeded in the failed run
        ready.touch()
        self.daemon.ctl("retry-run", "items", "--wait")
        self.assertRegex(self.why("items", "a[1]")["failures"][0]["then"],
                         r"^not tried again: max_attempts is 1; run again by retry-run at \d\d:\d\d:\d\d UTC$")
        self.assertRegex(self.daemon.ctl("get-run", "items").stdout, r"Generation:        2 \(1: FAILED in \d+ms, 2 steps failed\)")
        self.daemon.ctl("submit", file, "--name", "more", "--wait")
        cached = [line.split() for line in self.daemon.ctl("plan", file).stdout.splitlines() if "be cached" in line]
        self.assertEqual([line[0] for line in cached], ["a[0…3]"])
        self.assertEqual(len([line for line in self.daemon.ctl("plan", file, "-o", "wide").stdout.splitlines() if "be cached" in line]), 4)
        self.assertIn("a[0]: SUCCEEDED, ", self.daemon.ctl("diff-runs", "items", "more").stdout)
        self.daemon.ctl("submit", file, "--name", "anew", "--no-cache", "--wait")
        self.assertIn("  a[0…3]: SUCCEEDED → CACHED, from items\n0 steps", self.daemon.ctl("diff-runs", "anew", "more").stdout)

    def test_diff_runs(self) -> None:
        before = """
name: diff
parameters: {n: 1}
steps:
  - name: a
    command: [sh, -c, 'echo ${params.n} > ${outputs.x}']
    outputs: {x: {}}
  - name: old
    command: ['true']
  - name: same
    command: ['true']
  - name: b
    command: [sh, -c, 'exit 4']
"""
        after = before.replace("  - name: old\n    command: ['true']\n", "").replace("exit 4", "exit 0") + "  - name: new\n    command: ['true']\n"
        self.daemon.run(before, "--name", "d1", code=1)
        self.daemon.run(after, "--name", "d2", "-p", "n=2")
        diff = self.daemon.json("diff-runs", "d1", "d2")
        self.assertEqual(diff["parameters"], [{"name": "n", "before": "1", "after": "2"}])
        fields = {change["name"]: change for change in diff["pipeline"]}
        self.assertIn("exit 4", fields["steps.b.command"]["before"])
        self.assertEqual((fields["steps.old"]["after"], fields["steps.new"]["before"]), ("", ""))
        steps = {step["name"]: step for step in diff["steps"]}
        self.assertEqual(steps["a"]["outputs"][0]["name"], "x")
        self.assertEqual((steps["b"]["before"]["state"], steps["b"]["after"]["state"]), ("FAILED", "SUCCEEDED"))
        self.assertEqual(steps["b"]["before"]["exit_code"], 4)
        self.assertNotIn("same", steps)
        self.assertEqual(diff["same_steps"], 1)
        text = self.daemon.ctl("diff-runs", "d1", "d2").stdout
        for word in ("n: 1 → 2", "+ steps.new", "- steps.old", "b: FAILED, exit code 4"):
            self.assertIn(word, text)
        self.assertEqual(json.loads(self.daemon.ctl("diff-runs", "d1", "d1", "-o", "json").stdout).get("steps", []), [])


if __name__ == "__main__":
    unittest.main()
