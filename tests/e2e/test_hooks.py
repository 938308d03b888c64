"""Hooks of steps and runs: what they get, that they are not lost, and that they are in nobody's way."""
import os
import signal
import unittest
from typing import Any

from tests.lib.daemon import Daemon, alive, wait_for


class Hooks(unittest.TestCase):
    daemon: Daemon

    def setUp(self) -> None:
        self.daemon = Daemon("grace: 200ms\nlimits: {hook_seconds: 2, hooks_at_once: 2}\n")
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.gate = self.daemon.home / "gate"
        self.out = self.daemon.home / "out"

    def hook(self, run: str, step: str = "") -> dict[str, Any]:
        shown = self.daemon.json("get-step", run, step) if step else self.daemon.json("get-run", run)
        return shown["hooks"][0] if shown["hooks"] else {"state": ""}

    def wait_hook(self, run: str, step: str, state: str) -> dict[str, Any]:
        wait_for(f"the hook of {step or run} to be {state}", lambda: self.hook(run, step)["state"] == state)
        return self.hook(run, step)

    def log(self, run: str, hook: dict[str, Any], *more: str) -> str:
        return self.daemon.ctl("logs", run, "--hook", hook["id"], *more).stdout

    def test_what_a_hook_gets(self) -> None:
        # covers: Pipeline.hooks StepSpec.hooks Hooks.on_success Hook.command Hook.Command.command
        run = self.daemon.submit("""
name: p
parameters: {word: {type: string, default: a word}}
hooks: {on_success: {command: [sh, -c, 'env; echo "[${params.word}] ${run.name}"']}}
steps:
  - name: a
    command: [sh, -c, 'echo bytes > ${outputs.x}; echo 7 > ${outputs.v}']
    outputs: {x: {}, v: {value: true}}
  - name: b
    foreach: {i: [5]}
    command: [sh, -c, 'echo out > ${outputs.y}; exit 0']
    inputs: {x: a.x, v: a.v}
    outputs: {y: {}}
    hooks:
      on_success:
        command: [sh, -c, 'env; cat ${inputs.x} ${outputs.y}; echo "${values.v} ${item.i} ${step.name} ${attempt}"; echo err >&2']
""")
        self.daemon.ctl("wait-run", run)
        hook = self.wait_hook(run, "b[0]", "SUCCEEDED")
        text = self.log(run, hook, "--stream", "stdout")
        variables = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        self.assertTrue(text.endswith("bytes\nout\n7 5 b[0] 1\n"), text)
        self.assertEqual(self.log(run, hook, "--stream", "stderr"), "err\n")
        self.assertEqual((variables["ORCH_RUN_NAME"], variables["ORCH_STEP"], variables["ORCH_STATE"], variables["ORCH_REASON"],
                          variables["ORCH_MESSAGE"], variables["ORCH_HOOK"], variables["ORCH_ATTEMPT"], variables["ORCH_PIPELINE"]),
                         (run, "b[0]", "SUCCEEDED", "", "", "on_success", "1", "p"))
        self.assertEqual(variables["ORCH_HOOK_ID"], hook["id"])
        self.assertNotIn("ORCH_TOKEN", variables)
        hook = self.wait_hook(run, "", "SUCCEEDED")
        text = self.log(run, hook)
        self.assertIn(f"[a word] {run}\n", text)
        self.assertNotIn("ORCH_STEP=", text)
        self.assertEqual(self.daemon.json("get-step", run, "a")["hooks"], [])
        self.assertRegex(self.daemon.ctl("get-run", run).stdout, r"on_success +SUCCEEDED")

    def test_one_of_an_instance_made_at_run_time(self) -> None:
        run = self.daemon.submit("""
name: p
steps:
  - {name: list, command: [sh, -c, 'echo [3,4] > ${outputs.xs}'], outputs: {xs: {value: true}}}
  - name: each
    foreach: {k: {from: list.xs}}
    command: ['true']
    hooks: {on_success: {command: [echo, '${step.name} ${item.k}']}}
""")
        self.daemon.ctl("wait-run", run)
        for number in (0, 1):
            hook = self.wait_hook(run, f"each[{number}]", "SUCCEEDED")
            self.assertEqual(self.log(run, hook), f"each[{number}] {3 + number}\n")
        self.assertEqual(self.daemon.json("get-step", run, "each")["hooks"], [], "of the fan-out itself there is nothing to tell")
        # One that cannot be made has the hook that its instances would have had.
        run = self.daemon.submit("""
name: p
steps:
  - {name: list, command: [sh, -c, 'echo 3 > ${outputs.xs}'], outputs: {xs: {value: true}}}
  - name: each
    foreach: {k: {from: list.xs}}
    command: ['true']
    inputs: {xs: list.xs}
    hooks: {on_failure: {command: [echo, '${step.name} <${item.k}${values.xs}>']}}
""")
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(self.log(run, self.wait_hook(run, "each", "SUCCEEDED")), "each <>\n")

    def test_a_failure_is_told_and_changes_nothing(self) -> None:
        # covers: Hooks.on_failure
        run = self.daemon.submit("""
name: p
hooks: {on_failure: {command: [no-such-program]}, on_success: {command: [touch, never]}}
steps:
  - name: a
    command: [sh, -c, 'exit 4']
    retry: {max_attempts: 2, backoff: {initial: 0s}}
    hooks: {on_failure: {command: [sh, -c, 'echo $ORCH_STATE $ORCH_REASON $ORCH_EXIT_CODE $ORCH_ATTEMPT "$ORCH_MESSAGE"; exit 9']}}
""")
        self.daemon.ctl("wait-run", run, code=1)
        hook = self.wait_hook(run, "a", "FAILED")
        self.assertEqual((hook["exit_code"], hook["event"], hook["tries"]), (9, "on_failure", 1))
        self.assertEqual(self.log(run, hook), "FAILED EXIT_CODE 4 2 exit code 4\n")
        hook = self.wait_hook(run, "", "FAILED")
        self.assertIn("no-such-program", hook["message"])
        self.assertEqual(self.daemon.state(run), "FAILED")
        self.assertRegex(self.daemon.ctl("get-step", run, "a").stdout, r"on_failure +FAILED.*exit code 9")

    def test_one_that_hangs_is_killed_and_nobody_waits_for_it(self) -> None:
        run = self.daemon.submit(f"""
name: p
steps:
  - name: a
    command: ['true']
    hooks: {{on_success: {{command: [sh, -c, 'trap "" TERM; echo $$$$ > {self.out}; while true; do sleep 0.1; done']}}}}
  - name: b
    command: ['true']
    after: [a]
""")
        self.daemon.ctl("wait-run", run, "--timeout", "20s")
        self.assertEqual(self.hook(run, "a")["state"], "RUNNING")
        hook = self.wait_hook(run, "a", "TIMED_OUT")
        self.assertIn("hook_seconds", hook["message"])
        pid = int(self.out.read_text())
        wait_for("its processes to be gone", lambda: not alive(pid))
        self.assertEqual(self.daemon.state(run), "SUCCEEDED")

    def test_they_go_on_over_kills_and_their_id_stays(self) -> None:
        self.daemon.stop()
        self.daemon.config = "grace: 200ms\nlimits: {hooks_at_once: 1}\n"
        self.daemon.start()
        step = (f"{{name: %s, command: ['true'], hooks: {{on_success: {{command: [sh, -c, "
                f"'echo $ORCH_STEP $ORCH_HOOK_ID >> {self.out}; while [ ! -e {self.gate} ]; do sleep 0.02; done; echo ended']}}}}}}")
        run = self.daemon.submit("name: p\nsteps:\n" + "".join(f"  - {step % name}\n" for name in "abc"))
        self.daemon.ctl("wait-run", run)
        wait_for("the first hook", self.out.exists)
        self.daemon.restart(signal.SIGKILL)  # one runs, two wait; the run is out of memory
        states = sorted(self.hook(run, step)["state"] for step in "abc")
        self.assertEqual(states, ["PENDING", "PENDING", "RUNNING"])
        supervisor = self.daemon.supervisor_pid()
        os.kill(supervisor, signal.SIGKILL)  # nobody knows how the one ended: it is begun again
        wait_for("it to be begun again", lambda: len(self.out.read_text().splitlines()) >= 2)
        self.gate.touch()
        for name in "abc":
            hook = self.wait_hook(run, name, "SUCCEEDED")
            self.assertEqual(self.log(run, hook), "ended\n")
        lines = self.out.read_text().splitlines()
        self.assertEqual(len(lines), 4)
        self.assertEqual(set(lines), {f"{name} {self.hook(run, name)['id']}" for name in "abc"})
        self.assertEqual(sorted(self.hook(run, name)["tries"] for name in "abc"), [1, 1, 2])

    def test_the_limit_of_their_logs_holds_over_a_kill_of_the_daemon(self) -> None:
        self.daemon.stop()
        self.daemon.config = "grace: 200ms\nlimits: {log_bytes: 100K}\n"
        self.daemon.start()
        run = self.daemon.submit(
            "name: p\nsteps:\n  - {name: a, command: ['true'], hooks: {on_success: {command: [sh, -c, "
            f"'touch {self.out}; while [ ! -e {self.gate} ]; do sleep 0.02; done; while true; do echo a line of words that are not few; done']}}}}}}\n")
        wait_for("the hook", self.out.exists)
        self.daemon.restart(signal.SIGKILL)
        self.gate.touch()
        hook = self.wait_hook(run, "a", "FAILED")
        self.assertIn("log_bytes", hook["message"])

    def test_each_is_run_once_if_the_daemon_dies_at_any_point(self) -> None:
        for point in ("commit.after", "hook.before", "hook.submitted", "commit.effects"):
            with self.subTest(point):
                once = self.daemon.home / "once"
                once.touch()
                self.daemon.faults = f"{point}=kill@{once}"
                self.daemon.restart()
                marks = self.daemon.home / f"marks-{point}"
                text = (f"name: p\nhooks: {{on_success: {{command: [sh, -c, 'echo $ORCH_HOOK_ID >> {marks}']}}}}\n"
                        "steps:\n  - {name: a, command: ['true']}\n")
                self.daemon.ctl("submit", self.daemon.file(text), "--name", f"run-{point}", "--timeout", "2s", code=None)
                wait_for("the daemon to die", lambda: self.daemon.process and self.daemon.process.poll() is not None)
                self.daemon.faults = ""
                self.daemon.start()
                if self.daemon.ctl("get-run", f"run-{point}", code=None).returncode:
                    self.daemon.submit(text, "--name", f"run-{point}")
                self.daemon.ctl("wait-run", f"run-{point}")
                hook = self.wait_hook(f"run-{point}", "", "SUCCEEDED")
                self.assertEqual(marks.read_text().split(), [hook["id"]])

    def test_a_retried_run_has_them_again(self) -> None:
        run = self.daemon.submit(f"""
name: p
hooks: {{on_failure: {{command: [sh, -c, 'echo run $ORCH_GENERATION $ORCH_HOOK_ID >> {self.out}']}}}}
steps:
  - name: a
    command: [sh, -c, 'exit 1']
    hooks: {{on_failure: {{command: [sh, -c, 'echo step $ORCH_GENERATION $ORCH_ATTEMPT >> {self.out}']}}}}
""")
        self.daemon.ctl("wait-run", run, code=1)
        wait_for("the first hooks", lambda: self.out.exists() and len(self.out.read_text().splitlines()) == 2)
        self.daemon.ctl("retry-run", run, "--wait", code=1)
        wait_for("the next hooks", lambda: len(self.out.read_text().splitlines()) == 4)
        wait_for("their ends", lambda: {h["state"] for h in self.daemon.json("get-run", run)["hooks"]} == {"SUCCEEDED"})
        hooks = self.daemon.json("get-run", run)["hooks"]
        self.assertEqual([h["generation"] for h in hooks], [1, 2])
        self.assertEqual(set(self.out.read_text().splitlines()), {
            "step 1 1", "step 2 2", f"run 1 {hooks[0]['id']}", f"run 2 {hooks[1]['id']}"})
        self.daemon.ctl("delete-run", run)

    def test_what_is_refused(self) -> None:
        # covers: Hook.webhook
        for more, words in {
            "hooks: {on_failure: {webhook: 'https://x'}}": "not in this build",
            "hooks: {on_failure: {command: [x, '${outputs.none}']}}": "outputs.none",
            "hooks: {on_failure: {command: [x, '${step.name']}}": "not closed",
        }.items():
            text = f"name: p\nsteps:\n  - name: a\n    command: ['true']\n    {more}\n"
            error = self.daemon.ctl("submit", self.daemon.file(text), code=8).stderr
            self.assertIn(words, error)
            self.assertRegex(error, r"pipeline\.yaml:5:\d+: ")
        error = self.daemon.ctl("submit", self.daemon.file(
            "name: p\nhooks: {on_success: {command: [x, '${step.name}']}}\nsteps:\n  - {name: a, command: [x]}\n"), code=8).stderr
        self.assertRegex(error, r"pipeline\.yaml:2:\d+: .*a hook of the run")
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n")
        self.daemon.ctl("logs", run, "--hook", "nobody", code=3)
        self.daemon.ctl("logs", run, code=2)

    def test_cached_steps_and_cancelled_runs(self) -> None:
        text = (f"name: p\nsteps:\n  - name: a\n    command: ['true']\n    cache: {{enabled: true}}\n"
                f"    hooks: {{on_success: {{command: [sh, -c, 'echo $ORCH_STATE >> {self.out}']}}}}\n")
        for state in ("SUCCEEDED", "CACHED"):
            run = self.daemon.submit(text)
            self.daemon.ctl("wait-run", run)
            self.wait_hook(run, "a", "SUCCEEDED")
        self.assertEqual(self.out.read_text().split(), ["SUCCEEDED", "CACHED"])
        run = self.daemon.submit("name: c\nhooks: {on_failure: {command: [x]}, on_success: {command: [x]}}\n"
                                 "steps:\n  - {name: a, command: [sleep, '60']}\n")
        self.daemon.ctl("cancel-run", run)
        self.daemon.ctl("wait-run", run, code=5)
        self.assertEqual(self.daemon.json("get-run", run)["hooks"], [])


if __name__ == "__main__":
    unittest.main()
