"""Runs whose shape is known only on the way: conditions, fan-outs over lists made at run time, and kills in their midst."""
from __future__ import annotations

import json
import signal
import unittest

from tests.lib.daemon import Daemon, wait_for


class Shape(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon("limits: {fanout_width: 40, steps_per_run: 60}\n")
        cls.daemon.start()
        cls.addClassCleanup(cls.daemon.close)

    def one(self, when: str, *args: object, value: str = "5", code: int | None = None) -> dict[str, dict]:
        """The steps of a run in which `b` depends on what `a` wrote."""
        text = json.dumps({"name": "p", "parameters": {"n": 1}, "steps": [
            {"name": "a", "command": ["sh", "-c", f"echo '{value}' > $ORCH_OUTPUT_V"], "outputs": {"v": {"value": True}}},
            {"name": "b", "command": ["true"], "after": ["a"], "when": when}]})
        return self.daemon.run(text, *args, code=code)

    def fan(self, value: str) -> tuple[str, dict[str, dict]]:
        text = json.dumps({"name": "p", "steps": [
            {"name": "a", "command": ["sh", "-c", f"echo '{value}' > $ORCH_OUTPUT_XS"], "outputs": {"xs": {"value": True}}},
            {"name": "t", "foreach": {"x": {"from": "a.xs"}}, "command": ["echo", "${item.x}"]},
            {"name": "end", "command": ["true"], "after": ["t"]}]})
        run = self.daemon.submit(text)
        self.daemon.ctl("wait-run", run, code=None)
        return run, self.daemon.steps(run)

    def refused(self, text: str, *words: str) -> None:
        error = self.daemon.ctl("submit", self.daemon.file(text), code=8).stderr
        for word in words:
            self.assertIn(word, error)

    def test_a_condition_decides(self) -> None:
        # covers: StepSpec.when
        for when, state in ((".a.v == 5", "SUCCEEDED"), (".a.v > 5", "SKIPPED"), (".params.n == 1 and .a.v", "SUCCEEDED"),
                            ("[.a.v, .params.n] | max == 5", "SUCCEEDED"), ('."a".v | tostring == "5"', "SUCCEEDED")):
            self.assertEqual(self.one(when)["b"]["state"], state, when)

    def test_what_is_neither_true_nor_false_fails_the_step(self) -> None:
        for when, words in ((".a.v", "gave 5"), (".a.v | error", "5"), (".a.v | empty", "no result"), (".a.v == (5, 6)", "more than one"),
                            (".a.v.x == 1", "Cannot index number"), ("[limit(1e9; repeat(1))] | length > 3", "2 s of CPU time")):
            step = self.one(when)["b"]
            self.assertEqual((step["state"], step["reason"]), ("FAILED", "WHEN_INVALID"), when)
            self.assertIn(words, step["message"])
        # The helper that died over the last one has a successor.
        self.assertEqual(self.one(".a.v == 5")["b"]["state"], "SUCCEEDED")

    def test_bad_conditions_are_refused(self) -> None:
        self.refused("""
name: p
parameters: {n: 1}
steps:
  - name: a
    command: ['true']
    outputs: {v: {value: true}, f: {}}
  - name: b
    command: ['true']
    after: [a]
    when: '.a.v >'
  - name: c
    command: ['true']
    after: [a]
    when: '.a.f == 1'
  - name: d
    command: ['true']
    when: '.a.v == 1'
  - name: e
    command: ['true']
    when: '.params.n'
  - name: f
    command: ['true']
    when: 'now > 5'
""", ":11:", "syntax error", ":15:", "no output `f` with `value: true`", ":18:", "name the step in `inputs` or `after`",
                     ":21:", "must give true or false and gave 1", ":24:", "`now` is not allowed")

    def test_a_list_of_any_length(self) -> None:
        for value, count in (("[]", 0), ("[1]", 1), ('["a b", {"k": [null]}, 2.5]', 3)):
            run, steps = self.fan(value)
            self.assertEqual(steps["end"]["state"], "SUCCEEDED")
            self.assertEqual(sum(name.startswith("t[") for name in steps), count)
        self.assertEqual([self.daemon.ctl("logs", run, f"t[{n}]").stdout for n in range(3)],
                         ["a b\n", '{"k":[null]}\n', "2.5\n"])
        self.assertEqual(self.daemon.json("get-step", run, "t[0]")["item"], {"x": "a b"})
        self.assertEqual(self.daemon.json("get-run", run)["step_count"], 6)

    def test_what_is_no_list_fails_the_fan_out(self) -> None:
        # covers: ForeachKey.from
        for value, words in (('{"a": 1}', "is no list: it is {"), ("5", "is no list: it is 5"),
                             (json.dumps(list(range(41))), "limit fanout_width")):
            _, steps = self.fan(value)
            self.assertEqual((steps["t"]["state"], steps["t"]["reason"]), ("FAILED", "FANOUT_INVALID"))
            self.assertIn(words, steps["t"]["message"])
            self.assertEqual(steps["end"]["state"], "SKIPPED")
        self.assertEqual(self.fan(json.dumps(list(range(40))))[1]["end"]["state"], "SUCCEEDED")
        text = json.dumps({"name": "p", "steps": [
            {"name": "a", "command": ["sh", "-c", f"echo '{list(range(20))}' > $ORCH_OUTPUT_XS"],
             "outputs": {"xs": {"value": True}}},
            {"name": "t", "foreach": {"x": {"from": "a.xs"}}, "command": ["true"]},
            {"name": "u", "foreach": {"x": {"from": "a.xs"}, "y": [1, 2]}, "command": ["true"]}]})
        failed = [step for step in self.daemon.run(text, code=1).values() if step["state"] == "FAILED"]
        self.assertEqual(len(failed), 1, "together they are more than the run may have")
        self.assertIn("limit steps_per_run", failed[0]["message"])

    def test_readers_see_a_run_grow(self) -> None:
        gate = self.daemon.home / "gate"
        text = json.dumps({"name": "p", "steps": [
            {"name": "a", "command": ["sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.02; done; echo '[1,2]' > $ORCH_OUTPUT_XS"],
             "outputs": {"xs": {"value": True}}},
            {"name": "t", "foreach": {"x": {"from": "a.xs"}}, "command": ["echo", "${item.x}"], "outputs": {}}]})
        run = self.daemon.submit(text)
        self.assertEqual([step["name"] for step in self.daemon.json("list-steps", run)["steps"]], ["a", "t"])
        self.assertIn("no step `t[0]`", self.daemon.ctl("get-step", run, "t[0]", code=3).stderr)
        gate.touch()
        self.daemon.ctl("wait-run", run)
        self.assertEqual([step["name"] for step in self.daemon.json("list-steps", run)["steps"]], ["a", "t", "t[0]", "t[1]"])
        events = self.daemon.json("list-events", run, "--step", "t[1]")["events"]
        self.assertIn("SUCCEEDED", [event.get("step_state") for event in events])

    def test_artifacts_of_other_runs(self) -> None:
        # covers: Input.artifact
        def use(ref: str) -> str:
            return self.daemon.submit(json.dumps({"name": "user", "steps": [
                {"name": "use", "command": ["sh", "-c", "cat $ORCH_INPUT_M"], "inputs": {"m": {"artifact": ref}}}]}))

        def make(word: str) -> None:
            self.daemon.run(json.dumps({"name": "maker", "steps": [
                {"name": "make", "command": ["sh", "-c", f"echo {word} > $ORCH_OUTPUT_M"],
                 "outputs": {"m": {"as": "the-model"}, }}]}), code=0)

        first, second, newest = use("the-model@1"), use("the-model@2"), use("the-model")
        for run in (first, second, newest):
            wait_for("it to wait", lambda run=run: self.daemon.steps(run)["use"]["reason"] == "WAITING_FOR_INPUTS")
        self.assertEqual(self.daemon.steps(second)["use"]["message"], "waits for artifact `the-model@2`")
        self.daemon.restart(signal.SIGKILL)
        make("one")
        for run in (first, newest):
            self.daemon.ctl("wait-run", run)
            self.assertEqual(self.daemon.ctl("logs", run, "use").stdout, "one\n")
        self.assertEqual(self.daemon.steps(second)["use"]["state"], "WAITING")
        make("two")
        self.daemon.ctl("wait-run", second)
        self.assertEqual(self.daemon.ctl("logs", second, "use").stdout, "two\n")
        later = use("the-model")
        self.daemon.ctl("wait-run", later)
        self.assertEqual(self.daemon.ctl("logs", later, "use").stdout, "two\n")
        never = use("nobody-makes-it")
        wait_for("it to wait", lambda: self.daemon.steps(never)["use"]["reason"] == "WAITING_FOR_INPUTS")
        self.daemon.ctl("cancel-run", never)
        self.daemon.ctl("wait-run", never, code=5)
        self.refused("name: p\nsteps:\n  - name: a\n    command: ['true']\n    inputs: {m: {artifact: the-model@0}}\n",
                     "name@version")

    def test_kills_in_its_midst(self) -> None:
        """After each kill the run goes on: every instance ran once, in the order of its stages."""
        marks = self.daemon.home / "marks"
        text = json.dumps({"name": "p", "steps": [
            {"name": "a", "command": ["sh", "-c", f"echo a >> {marks}; echo '[0,1,2,3,4,5,6,7]' > $ORCH_OUTPUT_XS"],
             "outputs": {"xs": {"value": True}}},
            {"name": "t", "foreach": {"x": {"from": "a.xs"}}, "outputs": {"y": {"value": True}},
             "command": ["sh", "-c", f"echo t${{item.x}} >> {marks}; sleep 0.1; echo ${{item.x}} > $ORCH_OUTPUT_Y"]},
            {"name": "u", "foreach": {"x": {"from": "a.xs"}}, "inputs": {"y": "t[item].y"}, "when": ".t.y != 3",
             "command": ["sh", "-c", f"echo u${{values.y}} >> {marks}"], "outputs": {}},
            {"name": "end", "command": ["sh", "-c", f"echo end >> {marks}"], "after": ["u"], "trigger_rule": "all_done"}]})
        run = self.daemon.submit(text)
        for mark in ("a", "t0", "t3", "u0", "t7"):
            wait_for(mark, lambda mark=mark: marks.exists() and mark in marks.read_text().split())
            self.daemon.restart(signal.SIGKILL)
        self.daemon.ctl("wait-run", run)
        lines = marks.read_text().split()
        self.assertEqual(sorted(lines), sorted(["a", "end"] + [f"t{n}" for n in range(8)] +
                                               [f"u{n}" for n in range(8) if n != 3]))
        self.assertEqual(self.daemon.steps(run)["u[3]"]["reason"], "WHEN_FALSE")


if __name__ == "__main__":
    unittest.main()
