"""What a pipeline can say, on every flavor: the platform does it, or the daemon does it there, or it is refused at submit. What
is silently ignored fails here."""
from __future__ import annotations

import json
import time

from tests.conformance.cases import Cases, generate
from tests.conformance.flavor import DAEMON, Does
from tests.lib.daemon import wait_for

QUICK = {"initial": "10ms"}


class Pipelines(Cases):
    table = "pipelines"
    usual = {"": DAEMON}

    @classmethod
    def setUpClass(cls) -> None:
        cls.flavor.up()
        cls.addClassCleanup(cls.flavor.down)

    def setUp(self) -> None:
        self.begin()
        self.addCleanup(self.daemon.close)

    def states(self, run: str, code: int | None = 0) -> dict[str, str]:
        return {name: step["state"] for name, step in self.wait(run, code).items()}

    # --- readiness ---

    def test_order_by_data(self) -> None:
        """a step starts once its inputs have landed, and not before"""
        run = self.submit(self.step("a", Does(gate="go", outputs={"x": "1"}), outputs={"x": {}}),
                          self.step("b", Does(outputs={"y": "2"}), inputs={"x": "a.x"}, outputs={"y": {}}),
                          self.step("c", inputs={"x": "a.x", "y": "b.y"}), self.step("free"))
        self.wait_state(run, "free", "SUCCEEDED")
        self.assertNotIn(self.state(run, "a"), ("SUCCEEDED", "FAILED"))
        self.assertEqual((self.state(run, "b"), self.state(run, "c")), ("WAITING", "WAITING"))
        self.open("go")
        steps = self.wait(run)
        self.assertEqual({s["state"] for s in steps.values()}, {"SUCCEEDED"})
        times = {name: self.daemon.json("get-step", run, name)["attempts"][0] for name in "abc"}
        self.assertLessEqual(times["a"]["end_time"], times["b"]["start_time"])
        self.assertLessEqual(times["b"]["end_time"], times["c"]["start_time"])

    def test_order_without_data(self) -> None:
        """`after`: a step waits for others though it reads nothing of theirs"""
        run = self.submit(self.step("a"), self.step("b", after=["a"]))
        self.wait(run)
        first, second = (self.daemon.json("get-step", run, name)["attempts"][0] for name in "ab")
        self.assertLessEqual(first["end_time"], second["start_time"])

    def test_early_edges(self) -> None:
        """`early: true`: a consumer starts when its input is published, while the producer runs"""
        run = self.submit(self.step("a", Does(outputs={"x": "soon"}, script=f"orch-launch publish x || exit 7\n"
                                              f"while [ ! -e {self.shared}/gate-go ]; do sleep 0.05; done"), outputs={"x": {}}),
                          self.step("b", Does(script="cat $ORCH_INPUT_X"), inputs={"x": {"from": "a.x", "early": True}}))
        self.wait_state(run, "b", "SUCCEEDED")
        self.assertEqual(self.state(run, "a"), "RUNNING")
        self.assertEqual(self.stdout(run, "b"), "soon")
        self.open("go")
        self.wait(run)

    def test_templates_and_environment(self) -> None:
        """templates in command and env are filled in, with values too"""
        run = self.submit(self.step("a", Does(outputs={"v": "[1, 2]"}), outputs={"v": {"value": True}}),
                          self.step("b", Does(script='echo "$WORD ${params.n} ${values.v} ${attempt} ${step.name}"') if self.has_logs() else None,
                                    inputs={"v": "a.v"}, env={"WORD": "${params.n} of ${run.name}"}), parameters={"n": 3})
        self.wait(run)
        shown = self.daemon.json("get-step", run, "b")
        self.assertEqual(shown["environment"]["WORD"], f"3 of {run}")
        if self.has_logs():
            self.assertEqual(self.stdout(run, "b"), f"3 of {run} 3 [1,2] 1 b\n")

    def has_logs(self) -> bool:
        return "logs_are_live" not in self.flavor.lacks

    def test_values(self) -> None:
        """small values are kept, shown and usable by what follows"""
        run = self.submit(self.step("a", Does(outputs={"v": '{"k": [1, null]}'}), outputs={"v": {"value": True}}),
                          self.step("b", inputs={"v": "a.v"}, when=".a.v.k[0] == 1"))
        self.assertEqual(self.states(run), {"a": "SUCCEEDED", "b": "SUCCEEDED"})
        bad = self.submit(self.step("a", Does(outputs={"v": "no json"}), outputs={"v": {"value": True}}))
        self.assertEqual(self.wait(bad, code=1)["a"]["reason"], "OUTPUT_INVALID")

    def test_a_missing_output_fails_the_step(self) -> None:
        """a declared output that is not written fails the step"""
        step = self.step("a", outputs={"x": {"type": "dir"}})
        failed = self.wait(self.submit(step), code=1)["a"]
        self.assertIn(failed["reason"], ("OUTPUT_MISSING", "OUTPUT_INVALID"))

    # --- shape ---

    def test_fan_out(self) -> None:
        """a fan-out over lists, its product, and a fan-in in the order of its items"""
        run = self.submit(self.step("each", Does(outputs={"v": '"${item.a}${item.n}"'}), foreach={"a": ["x", "y"], "n": [1, 2]}, outputs={"v": {"value": True}}),
                          self.step("join", inputs={"all": "each[*].v"}, when=self.when('[.each[].v] == ["x1", "x2", "y1", "y2"]', "[.each[].v] | length == 4")))
        self.assertEqual(self.states(run), {**{f"each[{i}]": "SUCCEEDED" for i in range(4)}, "join": "SUCCEEDED"})

    def when(self, exact: str, loose: str) -> str:
        """Commands fill in items; what is written in settings is written as it is."""
        return loose if self.flavor.name == "fake" else exact

    def test_fan_out_at_run_time(self) -> None:
        """a fan-out over a list that a step makes"""
        run = self.submit(self.step("cut", Does(outputs={"parts": "[5, 6, 7]"}), outputs={"parts": {"value": True}}),
                          self.step("count", Does(outputs={"n": "1"}), foreach={"part": {"from": "cut.parts"}}, outputs={"n": {"value": True}}),
                          self.step("sum", inputs={"ns": "count[*].n"}, when="[.count[].n] | add == 3"))
        states = self.states(run)
        self.assertEqual({states[name] for name in ("count[0]", "count[1]", "count[2]", "sum")}, {"SUCCEEDED"}, states)

    def test_conditions(self) -> None:
        """`when`: false skips the step and what needs it; nothing of it is submitted"""
        run = self.submit(self.step("a", Does(outputs={"v": "5"}), outputs={"v": {"value": True}}),
                          self.step("yes", inputs={"v": "a.v"}, when=".a.v == 5"), self.step("no", inputs={"v": "a.v"}, when=".a.v > 5"),
                          self.step("behind", after=["no"]))
        self.assertEqual(self.states(run), {"a": "SUCCEEDED", "yes": "SUCCEEDED", "no": "SKIPPED", "behind": "SKIPPED"})
        self.assertEqual(self.executions("no"), [])

    def test_trigger_rules(self) -> None:
        """the six trigger rules over steps that end well, fail and are skipped"""
        good, bad = self.step("good"), self.step("bad", Does(exit=1))
        expected = {"all_success": "SKIPPED", "all_done": "SUCCEEDED", "one_success": "SUCCEEDED", "one_failed": "SUCCEEDED",
                    "all_failed": "SKIPPED", "none_failed": "SKIPPED"}
        run = self.submit(good, bad, *[self.step(rule, after=["good", "bad"], trigger_rule=rule) for rule in expected],
                          self.step("failed", after=["bad"], trigger_rule="all_failed"), self.step("well", after=["good"], trigger_rule="none_failed"))
        states = self.states(run, code=1)
        self.assertEqual(states, {"good": "SUCCEEDED", "bad": "FAILED", "failed": "SUCCEEDED", "well": "SUCCEEDED", **expected})

    # --- what happens on a failure ---

    def mode(self, mode: str) -> tuple[dict[str, str], str]:
        run = self.submit(self.step("bad", Does(gate="fail", exit=1)), self.step("live", Does(gate="go") if mode != "fail_fast" else Does(hold=True)),
                          self.step("next", after=["live"]), self.step("needs", after=["bad"]), execution_mode=mode, name=mode)
        for step in ("bad", "live"):
            self.wait_begun(run, step)
        self.open("fail")
        self.wait_state(run, "bad", "FAILED")
        self.open("go")
        return self.states(run, code=1), run

    def test_continue_on_failure(self) -> None:
        """continue_on_failure: what does not need the failed step goes on"""
        self.assertEqual(self.mode("continue_on_failure")[0], {"bad": "FAILED", "live": "SUCCEEDED", "next": "SUCCEEDED", "needs": "SKIPPED"})

    def test_stop_on_failure(self) -> None:
        """stop_on_failure: live steps go on, nothing else starts"""
        self.assertEqual(self.mode("stop_on_failure")[0], {"bad": "FAILED", "live": "SUCCEEDED", "next": "SKIPPED", "needs": "SKIPPED"})
        self.assertEqual(self.executions("next"), [])

    def test_fail_fast(self) -> None:
        """fail_fast: live steps are stopped, nothing else starts"""
        self.assertEqual(self.mode("fail_fast")[0], {"bad": "FAILED", "live": "CANCELLED", "next": "SKIPPED", "needs": "SKIPPED"})

    def test_retries(self) -> None:
        """retries with back-off, a new attempt each, until it succeeds or the budget is used"""
        run = self.submit(self.step("heals", Does(fails_first=2), retry={"max_attempts": 4, "backoff": {"initial": "300ms", "multiplier": 1}}),
                          self.step("never", Does(exit=5), retry={"max_attempts": 2, "backoff": QUICK}))
        steps = self.wait(run, code=1)
        self.assertEqual((steps["heals"]["state"], steps["heals"]["attempt"]), ("SUCCEEDED", 3))
        self.assertEqual((steps["never"]["state"], steps["never"]["attempt"]), ("FAILED", 2))
        self.assertEqual([self.executions(name) for name in ("heals", "never")], [[1, 2, 3], [1, 2]])

    def test_run_again_from_failure(self) -> None:
        """retry-run goes on from what failed, and keeps what succeeded"""
        run = self.submit(self.step("a"), self.step("b", Does(fails_first=1), after=["a"]), self.step("c", after=["b"]))
        self.assertEqual(self.states(run, code=1), {"a": "SUCCEEDED", "b": "FAILED", "c": "SKIPPED"})
        self.daemon.ctl("retry-run", run)
        self.assertEqual(self.states(run), {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "SUCCEEDED"})
        self.assertEqual([self.executions(name) for name in "abc"], [[1], [1, 2], [1]])

    # --- time ---

    def test_run_time_outs(self) -> None:
        """`timeout.run` ends an attempt that takes too long"""
        run = self.submit(self.step("a", Does(hold=True), timeout={"run": "1s"}), self.step("b"))
        steps = self.wait(run, code=1)
        self.assertEqual((steps["a"]["state"], steps["a"]["reason"], steps["b"]["state"]), ("FAILED", "RUN_TIMEOUT", "SUCCEEDED"))
        wait_for("the platform to be clean", lambda: not self.flavor.jobs(self.daemon), self.flavor.seconds, every=0.1)

    def test_time_outs_of_runs(self) -> None:
        """`timeout` of a run ends all that is left of it"""
        run = self.submit(self.step("a", Does(hold=True)), self.step("b", after=["a"]), timeout="2s")
        self.assertEqual(self.states(run, code=1)["b"], "SKIPPED")
        self.assertEqual(self.daemon.json("get-run", run)["state"], "FAILED")

    def test_pause_and_resume(self) -> None:
        """a paused run starts nothing more until it is resumed"""
        run = self.submit(self.step("a", Does(gate="go")), self.step("b", after=["a"]))
        self.wait_begun(run, "a")
        self.daemon.ctl("pause-run", run)
        self.open("go")
        self.wait_state(run, "a", "SUCCEEDED")
        self.assertNotIn(self.state(run, "b"), ("RUNNING", "SUCCEEDED", "SUBMITTING"))
        self.daemon.ctl("resume-run", run)
        self.wait(run)
        self.assertEqual(self.executions("b"), [1])

    def test_at_most_so_many_at_a_time(self) -> None:
        """`max_parallel` and pools hold"""
        self.daemon.ctl("create-pool", "one", "--slots", "1")
        run = self.submit(*[self.step(f"p{i}", pools={"one": 1}) for i in range(3)], *[self.step(f"m{i}") for i in range(3)], max_parallel=2)
        self.wait(run)
        spans = {}
        for name in self.daemon.steps(run):
            attempt = self.daemon.json("get-step", run, name)["attempts"][0]
            spans[name] = (attempt["start_time"], attempt["end_time"])
        overlap = lambda a, b: a[0] < b[1] and b[0] < a[1]  # noqa: E731
        pooled = [spans[f"p{i}"] for i in range(3)]
        self.assertFalse([1 for i, a in enumerate(pooled) for b in pooled[i + 1:] if overlap(a, b)], spans)
        for begin, _ in spans.values():
            self.assertLessEqual(sum(s <= begin < e for s, e in spans.values()), 2, spans)

    # --- what is known already ---

    def test_cache(self) -> None:
        """a step with the same key is not run again; with another one it is"""
        steps = lambda word: [self.step("a", Does(outputs={"x": word}), outputs={"x": {}}, cache={"enabled": True}),  # noqa: E731
                              self.step("b", Does(outputs={"y": "1"}), inputs={"x": "a.x"}, outputs={"y": {}}, cache={"enabled": True})]
        self.assertEqual(self.states(self.submit(*steps("1"))), {"a": "SUCCEEDED", "b": "SUCCEEDED"})
        hit = self.submit(*steps("1"))
        self.assertEqual(self.states(hit), {"a": "CACHED", "b": "CACHED"})
        if self.flavor.name != "fake":  # its settings are no part of a key
            self.assertEqual(self.states(self.submit(*steps("2"))), {"a": "SUCCEEDED", "b": "SUCCEEDED"})

    def test_files_from_outside(self) -> None:
        """`uri: file://…` is read as it is when the step begins, and its bytes are part of the key"""
        data = self.shared / "data.txt"
        data.write_text("outside")
        data.chmod(0o644)
        step = self.step("a", Does(script="cat $ORCH_INPUT_F"), inputs={"f": {"uri": f"file://{data}"}}, cache={"enabled": True})
        run = self.submit(step)
        self.assertEqual(self.states(run), {"a": "SUCCEEDED"})
        if self.has_logs():
            self.assertEqual(self.stdout(run, "a"), "outside")
        self.assertEqual(self.states(self.submit(step)), {"a": "CACHED"})
        data.write_text("changed")
        self.assertEqual(self.states(self.submit(step)), {"a": "SUCCEEDED"})
        missing = self.step("a", inputs={"f": {"uri": "file:///no/such/file"}})
        self.assertEqual(self.wait(self.submit(missing), code=1)["a"]["reason"], "INPUT_MISSING")

    def test_artifacts_of_other_runs(self) -> None:
        """`artifact: name`: one of another run, waited for until it lands"""
        reader = self.submit(self.step("b", Does(script="cat $ORCH_INPUT_X"), inputs={"x": {"artifact": "model"}}), name="reader")
        self.assertEqual(self.state(reader, "b"), "WAITING")
        self.wait(self.submit(self.step("a", Does(outputs={"x": "m1"}), outputs={"x": {"as": "model"}}), name="writer"))
        self.assertEqual(self.states(reader), {"b": "SUCCEEDED"})
        if self.has_logs():
            self.assertEqual(self.stdout(reader, "b"), "m1")

    def test_lineage(self) -> None:
        """what was made of what is known"""
        run = self.submit(self.step("a", Does(outputs={"x": "1"}), outputs={"x": {}}),
                          self.step("b", Does(outputs={"y": "2"}), inputs={"x": "a.x"}, outputs={"y": {}}))
        self.wait(run)
        self.assertIn("p.a.x", json.dumps(self.daemon.json("lineage", "p.b.y")))

    # --- resources: what each becomes ---

    def test_steps_on_other_orchestrators(self) -> None:
        """`orchestrator` of a step: a run of `local` with one step here, data passing both ways"""
        here = self.step("here", Does(outputs={"y": "2"}), inputs={"x": "first.x"}, outputs={"y": {}}, orchestrator=self.orchestrator)
        first = {"name": "first", "command": ["sh", "-c", "echo 1 > $ORCH_OUTPUT_X"], "outputs": {"x": {}}}
        last = {"name": "last", "command": ["sh", "-c", "cat $ORCH_INPUT_Y"], "inputs": {"y": "here.y"}}
        self.orchestrator = "local"
        run = self.submit(first, here, last)
        self.wait(run)
        self.assertEqual(self.stdout(run, "last"), "2")

    def test_priority(self) -> None:
        """`priority`: of those that wait for the same slot the higher one goes first"""
        self.daemon.ctl("create-pool", "one", "--slots", "1")
        run = self.submit(self.step("first", Does(gate="go"), pools={"one": 1}, priority=9),
                          *[self.step(f"p{p}", pools={"one": 1}, priority=p) for p in (1, 3, 2)])
        self.wait_begun(run, "first")
        self.open("go")
        self.wait(run)
        began = {p: self.daemon.json("get-step", run, f"p{p}")["attempts"][0]["start_time"] for p in (1, 2, 3)}
        self.assertEqual(sorted(began, key=began.__getitem__), [3, 2, 1])

    def test_heartbeats(self) -> None:
        """`heartbeat`: an attempt that gives no sign of life is ended"""
        begun = time.monotonic()
        run = self.submit(self.step("a", Does(hold=True), heartbeat="1s"))
        steps = self.wait(run, code=1)
        self.assertEqual((steps["a"]["state"], steps["a"]["reason"]), ("FAILED", "HEARTBEAT_TIMEOUT"), steps["a"])
        self.assertLess(time.monotonic() - begun, self.flavor.seconds * 2)


generate(Pipelines, globals())
del Pipelines
