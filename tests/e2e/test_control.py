"""What can be asked of a run that exists: pause, resume, cancel, skip, retry; also by two at once, and over a kill -9."""
import json
import signal
import threading
import unittest
from pathlib import Path

from tests.lib.daemon import Daemon, wait_for


def until(gate: Path) -> str:
    return f"[sh, -c, 'while [ ! -e {gate} ]; do sleep 0.02; done']"


class Control(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon("grace: 300ms\n")
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    def gate(self) -> Path:
        return self.daemon.home / f"{self.id().rsplit('.', 1)[-1]}-gate"

    def call(self, method: str, body: object) -> tuple[int, dict]:
        status, answer = self.daemon.http(f"/orch.v1.RunService/{method}", body)
        return status, json.loads(answer)

    def at_once(self, calls: list[tuple[str, object]]) -> list[tuple[int, dict]]:
        answers: list[tuple[int, dict]] = []
        threads = [threading.Thread(target=lambda c=c: answers.append(self.call(*c))) for c in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def states(self, run: str) -> dict[str, str]:
        return {name: step["state"] for name, step in self.daemon.steps(run).items()}

    # --- pause and resume ---

    def test_pause_and_resume(self) -> None:
        gate = self.gate()
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: {until(gate)}}}\n"
                                 "  - {name: b, command: ['true'], after: [a]}\n")
        wait_for("a to run", lambda: self.states(run)["a"] == "RUNNING")
        self.assertIn("PAUSED", self.daemon.ctl("pause-run", run).stdout)
        answers = self.at_once([("PauseRun", {"name": run})] * 2)
        self.assertEqual([(s, a["state"]) for s, a in answers], [(200, "PAUSED")] * 2)
        gate.touch()
        wait_for("a to end", lambda: self.states(run)["a"] == "SUCCEEDED")
        wait_for("b to be on record", lambda: self.states(run)["b"] == "READY")
        self.assertEqual(self.daemon.steps(run)["b"]["reason"], "RUN_PAUSED")
        self.daemon.restart(signal.SIGKILL)
        self.assertEqual(self.daemon.state(run), "PAUSED")
        self.assertEqual(self.states(run)["b"], "READY")
        self.assertIn("RUNNING", self.daemon.ctl("resume-run", run).stdout)
        self.daemon.ctl("wait-run", run)
        self.assertIn("has ended", self.daemon.ctl("pause-run", run, code=8).stderr)
        self.assertIn("has ended", self.daemon.ctl("resume-run", run, code=8).stderr)
        self.daemon.ctl("pause-run", "nobody", code=3)

    def test_a_failed_run_is_retried_not_resumed(self) -> None:
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['false']}\n")
        self.daemon.ctl("wait-run", run, code=1)
        self.assertIn("use retry-run", self.daemon.ctl("resume-run", run, code=8).stderr)

    # --- cancel ---

    def test_cancel_of_chosen_steps(self) -> None:
        gate = self.gate()
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: {until(gate)}, foreach: {{i: [1, 2, 3]}}, "
                                 "resources: {cpu: 0.1}}\n"
                                 f"  - {{name: b, command: {until(gate)}, resources: {{cpu: 0.1}}}}\n"
                                 "  - {name: c, command: ['true'], after: [a], trigger_rule: all_done}\n")
        wait_for("all to run", lambda: list(self.states(run).values()).count("RUNNING") == 4)
        self.at_once([("CancelRun", {"name": run, "steps": ["a[1]"]})] * 3)
        wait_for("one to end", lambda: self.states(run)["a[1]"] == "CANCELLED")
        self.assertEqual(self.states(run)["a[0]"], "RUNNING")
        self.assertIn("has no step", self.daemon.ctl("cancel-run", run, "--step", "zzz", code=3).stderr)
        self.daemon.ctl("cancel-run", run, "--step", "a[*]", "--force")
        wait_for("c", lambda: self.states(run)["c"] == "SUCCEEDED")
        self.assertEqual(self.daemon.state(run), "RUNNING")
        gate.touch()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.states(run)["b"], "SUCCEEDED")

    def test_cancel_graceful_then_forced_over_a_kill(self) -> None:
        stubborn = "[sh, -c, 'trap \"\" TERM; while :; do sleep 0.05; done']"
        daemon = Daemon("grace: 1h\n")
        self.addCleanup(daemon.close)
        daemon.start()
        run = daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: {stubborn}}}\n  - {{name: b, command: ['true'], after: [a]}}\n")
        wait_for("a to run", lambda: daemon.steps(run)["a"]["state"] == "RUNNING")
        daemon.ctl("cancel-run", run)
        wait_for("a to be asked", lambda: daemon.steps(run)["a"]["state"] == "STOPPING")
        daemon.restart(signal.SIGKILL)
        self.assertEqual(daemon.state(run), "CANCELLING")
        daemon.ctl("cancel-run", run, "--force")
        daemon.ctl("wait-run", run, code=5)
        self.assertEqual({n: s["state"] for n, s in daemon.steps(run).items()}, {"a": "CANCELLED", "b": "CANCELLED"})
        daemon.ctl("cancel-run", run)  # it has ended: OK

    # --- skip ---

    def test_skip_a_step(self) -> None:
        gate = self.gate()
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: {until(gate)}}}\n"
                                 "  - {name: b, command: ['false'], after: [a]}\n"
                                 "  - {name: strict, command: ['true'], after: [b]}\n"
                                 "  - {name: lax, command: ['true'], after: [b], trigger_rule: none_failed}\n"
                                 "  - {name: wide, command: ['false'], after: [a], foreach: {i: [1, 2]}}\n")
        wait_for("a to run", lambda: self.states(run)["a"] == "RUNNING")
        refused = self.daemon.ctl("skip-step", run, "a", code=8).stderr
        self.assertIn("cancel-run --step", refused)
        self.assertEqual({s for s, _ in self.at_once([("SkipStep", {"run": run, "steps": ["b"]})] * 2)}, {200})
        self.daemon.ctl("skip-step", run, "wide[*]")
        self.daemon.restart(signal.SIGKILL)
        gate.touch()
        self.daemon.ctl("wait-run", run)
        steps = self.daemon.steps(run)
        self.assertEqual((steps["b"]["state"], steps["b"]["reason"]), ("SKIPPED", "SKIP_REQUESTED"))
        self.assertEqual((steps["strict"]["state"], steps["strict"]["reason"]), ("SKIPPED", "UPSTREAM_SKIPPED"))
        self.assertEqual(steps["lax"]["state"], "SUCCEEDED")
        self.assertEqual(steps["wide[1]"]["reason"], "SKIP_REQUESTED")
        self.daemon.ctl("skip-step", run, "zzz", code=3)
        self.assertIn("has ended", self.daemon.ctl("skip-step", run, "b", code=8).stderr)
        status, answer = self.call("SkipStep", {"run": run})
        self.assertEqual((status, answer["details"][0]["debug"]["reason"]), (400, "REQUEST_INVALID"))

    # --- retry ---

    FIXED = """name: fixed
parameters:
  n: {type: int, default: 1}
  m: {type: int, default: 1}
steps:
  - {name: first, command: [sh, -c, 'echo first ran; echo one > "$ORCH_OUTPUT_O"'], outputs: {o: {}}}
  - name: uses
    command: [sh, -c, 'echo n is ${params.n}; echo ${params.n} > "$ORCH_OUTPUT_O"']
    outputs: {o: {}}
  - name: breaks
    command: [sh, -c, 'echo attempt ${attempt}; test -e %s && cat "$ORCH_INPUT_O"']
    inputs: {o: first.o}
  - {name: last, command: ['true'], after: [breaks, uses]}
"""

    def test_retry_goes_on_where_it_failed(self) -> None:
        gate = self.gate()
        run = self.daemon.submit(self.FIXED % gate)
        self.daemon.ctl("wait-run", run, code=1)
        waits = threading.Thread(target=lambda: self.daemon.ctl("wait-run", run, code=1))
        self.assertEqual(self.states(run), {"first": "SUCCEEDED", "uses": "SUCCEEDED", "breaks": "FAILED", "last": "SKIPPED"})
        gate.touch()
        waits.start()
        waits.join()
        done = self.daemon.ctl("retry-run", run, "--wait")
        self.assertIn(run, done.stdout)
        found = self.daemon.json("get-run", run)
        self.assertEqual((found["state"], found["generation"]), ("SUCCEEDED", 2))
        self.assertEqual([(g["number"], g["state"]) for g in found["earlier_generations"]], [(1, "FAILED")])
        # Its time is this generation's; that of all leaves out the pause between.
        earlier, = found["earlier_generations"]
        self.assertLess(earlier["start_time"], earlier["end_time"])
        self.assertGreater(found["start_time"], earlier["end_time"])
        self.assertRegex(self.daemon.ctl("get-run", run).stdout, r"\nTime: +\S+s \(\S+s in 2 generations\)\n")
        page = self.daemon.http(f"/runs/{run}")[1].decode()
        self.assertRegex(page, r"<dd>[\d.]+ m?s \([\d.]+ m?s in 2 generations\)</dd>")
        self.assertRegex(page, r"1 ended [^,]*FAILED[^,]* after [\d.]+ m?s")
        steps = self.daemon.steps(run)
        self.assertEqual({n: s["attempt"] for n, s in steps.items()}, {"first": 1, "uses": 1, "breaks": 2, "last": 1})
        self.assertEqual(self.daemon.ctl("logs", run, "breaks", "--attempt", "1").stdout, "attempt 1\n", "kept")
        self.assertEqual(self.daemon.ctl("logs", run, "breaks").stdout, "attempt 2\none\n")
        attempts = self.daemon.json("get-step", run, "breaks")["attempts"]
        self.assertEqual([a["state"] for a in attempts], ["FAILED", "SUCCEEDED"])
        self.assertIn("succeeded", self.daemon.ctl("retry-run", run, code=8).stderr)
        # Who waited for the first end has got it, however late it asks.
        self.assertEqual([self.call("WaitRun", {"name": run, "generation": g})[1]["state"] for g in (1, 2)],
                         ["FAILED", "SUCCEEDED"])
        self.assertEqual(self.call("WaitRun", {"name": run, "generation": 3})[0], 400)

    def test_retry_with_chosen_steps_and_changed_parameters(self) -> None:
        gate = self.gate()
        run = self.daemon.submit(self.FIXED % gate)
        self.daemon.ctl("wait-run", run, code=1)
        self.daemon.ctl("retry-run", run, "--step", "first", "--wait", code=1)
        steps = self.daemon.steps(run)
        self.assertEqual({n: s["attempt"] for n, s in steps.items()}, {"first": 2, "uses": 1, "breaks": 2, "last": 0})
        gate.touch()
        self.daemon.ctl("retry-run", run, "-p", "n=7", "--wait")
        steps = self.daemon.steps(run)
        self.assertEqual({n: s["attempt"] for n, s in steps.items()}, {"first": 2, "uses": 2, "breaks": 3, "last": 1})
        self.assertEqual(self.daemon.ctl("logs", run, "uses").stdout, "n is 7\n")
        found = self.daemon.json("get-run", run)
        self.assertEqual((found["generation"], found["parameters"]["n"]), (3, 7))
        self.assertEqual([g["parameters"]["n"] for g in found["earlier_generations"]], [1, 1])

    def test_retry_with_a_corrected_pipeline(self) -> None:
        broken = ("name: corrected\nsteps:\n  - {name: first, command: [sh, -c, 'echo 1 > \"$ORCH_OUTPUT_O\"'], outputs: {o: {}}}\n"
                  "  - {name: other, command: ['true']}\n  - {name: last, command: [cat, '${inputs.o}'], inputs: {o: first.o}}\n"
                  "  - {name: bad, command: [no-such-program]}\n")
        run = self.daemon.submit(broken)
        self.daemon.ctl("wait-run", run, code=1)
        retry = ["retry-run", run, "--wait", "--file"]
        self.assertIn("not of", self.daemon.ctl(*retry, self.daemon.file(broken.replace("corrected", "other")), code=8).stderr)
        self.daemon.ctl(*retry, self.daemon.file(broken.replace("no-such-program]", "'true', 7]")[:-4]), code=8)
        fixed = broken.replace("no-such-program]", "'true'], retry: {max_attempts: 2}").replace("echo 1", "echo 2")
        self.daemon.ctl(*retry, self.daemon.file(fixed))
        steps = self.daemon.steps(run)
        self.assertEqual({n: s["attempt"] for n, s in steps.items()}, {"first": 2, "other": 1, "last": 2, "bad": 2})
        self.assertEqual(self.daemon.ctl("logs", run, "last").stdout, "2\n")
        found = self.daemon.json("get-run", run)
        self.assertEqual(found["pipeline_version"], found["earlier_generations"][0]["pipeline_version"] + 1)

    OTHER = ("name: other\nsteps:\n"
             "  - {name: first, command: [sh, -c, 'echo 1 > \"$ORCH_OUTPUT_O\"'], outputs: {o: {}}}\n"
             "  - {name: each, foreach: {k: [1, 2]}, inputs: {o: first.o}, command: [sh, -c, 'echo ${item.k} > \"$ORCH_OUTPUT_X\"'],"
             " outputs: {x: {}}}\n"
             "  - {name: typo, after: [each], command: [no-such-program]}\n"
             "  - {name: all, inputs: {xs: 'each[*].x'}, after: [typo], command: [sh, -c, 'cat ${inputs.xs}/0*']}\n")
    CORRECTED = ("name: other\nsteps:\n"
                 "  - {name: all, inputs: {xs: 'each[*].x', c: check.c}, command: [sh, -c, 'cat ${inputs.xs}/0* ${inputs.c}']}\n"
                 "  - {name: check, inputs: {o: first.o}, command: [sh, -c, 'echo checked > \"$ORCH_OUTPUT_C\"'], outputs: {c: {}}}\n"
                 "  - {name: each, foreach: {k: [1, 7, 3]}, inputs: {o: first.o}, command: [sh, -c, 'echo ${item.k} > \"$ORCH_OUTPUT_X\"'],"
                 " outputs: {x: {}}}\n"
                 "  - {name: first, command: [sh, -c, 'echo 1 > \"$ORCH_OUTPUT_O\"'], outputs: {o: {}}}\n")

    def test_retry_with_other_steps(self) -> None:
        run = self.daemon.submit(self.OTHER)
        self.daemon.ctl("wait-run", run, code=1)
        retry = ["retry-run", run, "--wait", "--file"]
        self.daemon.ctl(*retry, self.daemon.file(self.CORRECTED))
        steps = self.daemon.steps(run)
        self.assertEqual({n: (s["state"], s["attempt"]) for n, s in steps.items()},
                         {"first": ("SUCCEEDED", 1), "each[0]": ("SUCCEEDED", 1), "each[1]": ("SUCCEEDED", 2),
                          "each[2]": ("SUCCEEDED", 1), "typo": ("SKIPPED", 1), "all": ("SUCCEEDED", 1), "check": ("SUCCEEDED", 1)})
        self.assertEqual(self.daemon.ctl("logs", run, "all").stdout, "1\n7\n3\nchecked\n")
        self.assertEqual(steps["typo"]["reason"], "STEP_REMOVED")
        self.assertEqual(self.daemon.json("get-step", run, "typo")["attempts"][0]["reason"], "COMMAND_NOT_FOUND", "its attempt is kept")
        self.assertIn("does not have it any more", self.daemon.ctl("why", run, "typo").stdout)
        self.assertEqual(self.daemon.json("get-run", run)["step_count"], 7)
        listed = self.daemon.json("list-steps", run, "--filter", "template_name=each")
        self.assertEqual([s["name"] for s in listed["steps"]], ["each[0]", "each[1]", "each[2]"])
        self.assertIn("succeeded", self.daemon.ctl(*retry, self.daemon.file(self.OTHER), code=8).stderr)

    def test_retry_with_other_steps_goes_to_and_fro(self) -> None:
        run = self.daemon.submit(self.OTHER)
        self.daemon.ctl("wait-run", run, code=1)
        retry = ["retry-run", run, "--wait", "--file"]
        fails = self.CORRECTED.replace("echo checked", "exit 3; echo")
        self.daemon.ctl(*retry, self.daemon.file(fails), code=1)
        self.daemon.ctl(*retry, self.daemon.file(fails.replace("[1, 7, 3]", "[7]")), code=1)
        steps = self.daemon.steps(run)
        self.assertEqual({n: (s["state"], s["attempt"]) for n, s in steps.items() if n.startswith("each")},
                         {"each[0]": ("SUCCEEDED", 2), "each[1]": ("SUCCEEDED", 2), "each[2]": ("SUCCEEDED", 1)})
        self.daemon.restart()
        self.daemon.ctl(*retry, self.daemon.file(self.OTHER), code=1)
        steps = self.daemon.steps(run)
        self.assertEqual(steps["typo"]["attempt"], 2, "it has come back")
        self.assertEqual((steps["check"]["state"], steps["check"]["reason"]), ("SKIPPED", "STEP_REMOVED"))
        self.daemon.ctl(*retry, self.daemon.file(self.CORRECTED))
        self.assertEqual(self.daemon.ctl("logs", run, "all").stdout, "1\n7\n3\nchecked\n")
        self.assertEqual(self.daemon.json("get-run", run)["generation"], 5)

    def test_retry_over_another_list(self) -> None:
        folder = self.gate()
        folder.mkdir()
        (folder / "list").write_text('["a", "bad", "c"]')
        run = self.daemon.submit(
            "name: lists\nsteps:\n"
            f"  - {{name: list, command: [cp, '{folder}/list', '${{outputs.xs}}'], outputs: {{xs: {{value: true}}}}}}\n"
            "  - {name: each, foreach: {k: {from: list.xs}}, command: [sh, -c, 'test ${item.k} != bad && echo ${item.k} > \"$ORCH_OUTPUT_Y\"'],"
            " outputs: {y: {}}}\n"
            "  - {name: all, inputs: {ys: 'each[*].y'}, command: [sh, -c, 'cat ${inputs.ys}/0*']}\n")
        self.daemon.ctl("wait-run", run, code=1)
        (folder / "list").write_text('["a", "c", "d", "e"]')
        self.daemon.ctl("retry-run", run, "--step", "list", "--wait")
        self.assertEqual(self.daemon.ctl("logs", run, "all").stdout, "a\nc\nd\ne\n")
        self.assertEqual(self.daemon.json("get-step", run, "each[1]")["item"], {"k": "c"})

    def test_bad_retries(self) -> None:
        gate = self.gate()
        run = self.daemon.submit(self.FIXED % gate)
        self.daemon.ctl("wait-run", run, code=1)
        self.assertIn("has no step", self.daemon.ctl("retry-run", run, "--step", "zzz", code=3).stderr)
        self.assertIn("has no parameter", self.daemon.ctl("retry-run", run, "-p", "zzz=1", code=8).stderr)
        self.assertIn("must be", self.daemon.ctl("retry-run", run, "-p", "n=word", code=8).stderr)
        self.daemon.ctl("retry-run", "nobody", code=3)
        found = self.daemon.json("get-run", run)
        self.assertEqual((found["state"], found["generation"]), ("FAILED", 1), "nothing half-done")
        running = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: {until(gate)}}}\n")
        refused = self.daemon.ctl("retry-run", running, code=8).stderr
        self.assertIn("cancel-run", refused)
        gate.touch()
        self.daemon.ctl("wait-run", running)

    def test_two_retries_at_once_and_a_repeat(self) -> None:
        gate = self.gate()
        run = self.daemon.submit(self.FIXED % gate)
        self.daemon.ctl("wait-run", run, code=1)
        status, before = self.call("GetRun", {"name": run})
        gate.touch()
        answers = self.at_once([("RetryRun", {"name": run, "request_id": "same-" + run})] * 3)
        self.assertEqual({s for s, _ in answers}, {200})
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.json("get-run", run)["generation"], before["generation"] + 1)
        status, answer = self.call("RetryRun", {"name": run, "request_id": "same-" + run, "steps": ["last"]})
        self.assertEqual(answer["details"][0]["debug"]["reason"], "REQUEST_ID_REUSED")

    # --- repeats: of a call whose answer was lost ---

    def again(self, method: str, body: dict[str, object]) -> dict:
        status, answer = self.call(method, body)
        self.assertEqual(status, 200, answer)
        return answer

    def test_what_was_resumed_and_skipped_is_answered_after_the_end(self) -> None:
        gate = self.gate()
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: {until(gate)}}}\n"
                                 "  - {name: b, command: ['true'], after: [a]}\n  - {name: c, command: ['true'], after: [a]}\n")
        calls: list[tuple[str, dict[str, object]]] = [
            ("PauseRun", {"name": run, "request_id": f"{run}-1"}),
            ("SkipStep", {"run": run, "steps": ["b"], "request_id": f"{run}-1"}),
            ("ResumeRun", {"name": run, "request_id": f"{run}-1"})]
        for method, body in calls:
            self.again(method, body)
        self.again("PauseRun", calls[0][1])
        self.assertEqual(self.daemon.json("get-run", run)["state"], "RUNNING", "a repeat does not pause again")
        self.daemon.restart(signal.SIGKILL)
        gate.touch()
        self.daemon.ctl("wait-run", run)
        for method, body in calls:
            self.assertEqual(self.again(method, body)["state"], "SUCCEEDED", method)
            status, answer = self.call(method, {**body, "request_id": f"{run}-2"})
            self.assertEqual(answer["details"][0]["debug"]["reason"], "RUN_ENDED", method)
        other = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n")
        self.daemon.ctl("wait-run", other)
        for method, body in calls:
            status, answer = self.call(method, {**body, "run" if "run" in body else "name": other})
            self.assertEqual(answer["details"][0]["debug"]["reason"], "REQUEST_ID_REUSED", method)

    def test_a_late_repeat_cancels_no_later_generation(self) -> None:
        gate = self.gate()
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: {until(gate)}}}\n")
        wait_for("a to run", lambda: self.states(run)["a"] == "RUNNING")
        body = {"name": run, "request_id": f"{run}-1"}
        self.again("CancelRun", body)
        self.daemon.ctl("wait-run", run, code=5)
        late = {"name": run, "request_id": f"{run}-2"}
        self.assertEqual(self.again("CancelRun", late)["state"], "CANCELLED")
        self.again("RetryRun", {"name": run, "request_id": f"{run}-1"})
        for repeat in (body, late):
            self.assertEqual(self.again("CancelRun", repeat)["generation"], 2)
        gate.touch()
        self.daemon.ctl("wait-run", run)
        status, answer = self.call("CancelRun", {**body, "force": True})
        self.assertEqual(answer["details"][0]["debug"]["reason"], "REQUEST_ID_REUSED")
        # Another one of its name is not meant, and what is gone cannot be shown.
        self.daemon.ctl("delete-run", run)
        self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n", "--name", run)
        status, answer = self.call("CancelRun", body)
        self.assertEqual(answer["details"][0]["debug"]["reason"], "RUN_NOT_FOUND")

    def test_what_was_deleted_is_answered_again(self) -> None:
        def ask(method: str, body: dict[str, object], service: str = "OrchestratorService") -> tuple[int, dict]:
            status, answer = self.daemon.http(f"/orch.v1.{service}/{method}", body)
            return status, json.loads(answer)
        self.daemon.ctl("create-pool", "p", "--slots", "2")
        self.daemon.ctl("register-orchestrator", "o", "--flavor", "local")
        self.daemon.ctl("register-artifact-store", "s", "--flavor", "local", "--config", f"path={self.daemon.home / 'store'}")
        self.daemon.ctl("register-stack", "k", "--orchestrator", "o")
        ask("SetSecret", {"name": "x", "text": "v"}, "SecretService")
        calls = [("DeletePool", "p"), ("DeleteStack", "k"), ("DeleteOrchestrator", "o"), ("DeleteArtifactStore", "s")]
        for method, name, service in [(*c, "OrchestratorService") for c in calls] + [("DeleteSecret", "x", "SecretService")]:
            body: dict[str, object] = {"name": name, "request_id": "gone"}
            for _ in range(2):
                self.assertEqual(ask(method, body, service), (200, {}), method)
            status, answer = ask(method, {"name": name, "request_id": "anew"}, service)
            self.assertEqual(status, 404, answer)
            status, answer = ask(method, {"name": "other", "request_id": "gone"}, service)
            self.assertEqual(answer["details"][0]["debug"]["reason"], "REQUEST_ID_REUSED", method)

    def test_a_cancelled_run_is_retried(self) -> None:
        gate = self.gate()
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: {until(gate)}}}\n"
                                 "  - {name: b, command: ['true'], after: [a]}\n")
        wait_for("a to run", lambda: self.states(run)["a"] == "RUNNING")
        self.daemon.ctl("cancel-run", run)
        self.daemon.ctl("wait-run", run, code=5)
        gate.touch()
        before = self.daemon.json("server-info")["last_sequence"]
        self.daemon.ctl("retry-run", run, "--watch")
        self.assertEqual(self.states(run), {"a": "SUCCEEDED", "b": "SUCCEEDED"})
        status, answer = self.call("ListEvents", {"run": run, "after_sequence": before})
        self.assertEqual([e["run_state"] for e in answer["events"] if e["type"] == "RUN_STATE_CHANGED"], ["RUNNING", "SUCCEEDED"])

    def retry_killed(self, daemon: Daemon, point: str, run: str, *how: str) -> None:
        """The daemon is killed at `point` of a retry and started again; then the run has its second generation."""
        daemon.stop()
        once = daemon.home / "once"
        once.touch()
        daemon.faults = f"{point}=kill@{once}"
        daemon.start()
        asked = threading.Thread(target=lambda: daemon.ctl("retry-run", run, *how, code=None))
        asked.start()
        wait_for(f"{point} to fire", lambda: not once.exists())
        wait_for("the daemon to die", lambda: daemon.process.poll() is not None)
        daemon.faults = ""
        daemon.start()
        asked.join()
        if daemon.json("get-run", run)["generation"] == 1:  # it was not on the disk yet: the run is as it was
            self.assertTrue(point.startswith(("commit.before", "commit.written")))
            self.assertEqual(daemon.state(run), "FAILED")
            daemon.ctl("retry-run", run, *how)
        daemon.ctl("wait-run", run)
        found = daemon.json("get-run", run)
        self.assertEqual((found["state"], found["generation"]), ("SUCCEEDED", 2))

    POINTS = ("commit.before", "commit.written", "commit.after", "commit.published", "retry.committed", "commit.effects")

    def test_retry_killed_in_the_middle(self) -> None:
        daemon = Daemon()
        self.addCleanup(daemon.close)
        gate = daemon.home / "gate"
        daemon.start()
        for point in self.POINTS:
            with self.subTest(point):
                gate.unlink(missing_ok=True)
                run = daemon.submit(self.FIXED % gate)
                daemon.ctl("wait-run", run, code=1)
                gate.touch()
                self.retry_killed(daemon, point, run)
                self.assertEqual(daemon.steps(run)["breaks"]["attempt"], 2)

    def test_retry_with_other_steps_killed_in_the_middle(self) -> None:
        daemon = Daemon()
        self.addCleanup(daemon.close)
        daemon.start()
        for point in self.POINTS:
            with self.subTest(point):
                run = daemon.submit(self.OTHER)
                daemon.ctl("wait-run", run, code=1)
                self.retry_killed(daemon, point, run, "--file", daemon.file(self.CORRECTED))
                steps = daemon.steps(run)
                self.assertEqual({n: s["state"] for n, s in steps.items() if s["state"] != "SUCCEEDED"}, {"typo": "SKIPPED"})
                self.assertEqual((len(steps), steps["first"]["attempt"]), (7, 1))
                self.assertEqual(daemon.ctl("logs", run, "all").stdout, "1\n7\n3\nchecked\n")

    # --- heartbeat ---

    def test_heartbeat(self) -> None:
        # covers: StepSpec.heartbeat
        gate = self.gate()
        beats = f"[sh, -c, 'while [ ! -e {gate} ]; do orch-launch heartbeat || exit 9; sleep 0.2; done']"
        quiet = "[sh, -c, 'orch-launch heartbeat; exec sleep 1000']"
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: alive, command: {beats}, heartbeat: 2s}}\n"
                                 f"  - {{name: hangs, command: {quiet}, heartbeat: 2s}}\n")
        wait_for("the silent one to be ended", lambda: self.states(run)["hangs"] == "FAILED")
        hangs = self.daemon.steps(run)["hangs"]
        self.assertEqual(hangs["reason"], "HEARTBEAT_TIMEOUT")
        self.assertEqual(self.daemon.json("get-step", run, "hangs")["attempts"][0]["state"], "TIMED_OUT")
        self.assertEqual(self.states(run)["alive"], "RUNNING")
        self.daemon.restart(signal.SIGKILL)  # its calls wait for the next daemon
        before = self.daemon.json("server-info")["last_sequence"]
        self.assertGreater(before, 0)
        gate.touch()
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(self.states(run)["alive"], "SUCCEEDED")
        status, answer = self.call("SendHeartbeat", {})
        self.assertEqual((status, answer["code"]), (403, "permission_denied"))


if __name__ == "__main__":
    unittest.main()
