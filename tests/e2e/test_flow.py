"""Pipelines as people write them: data along edges, fan-out, retries, time-outs, modes, cancel, early publishing, cache."""
import json
import pathlib
import unittest

from tests.lib.live import LiveTest, alive, wait_for


def sh(script):
    """The command of a step as a YAML flow list; JSON text is YAML."""
    return json.dumps(["/bin/sh", "-ec", script.replace("$$", "$$$$")])  # `$$` is one dollar in a template


class Data(LiveTest):
    def test_values_templates_fan_out_and_fan_in(self):
        text = f"""
name: data
parameters: {{greeting: {{type: string, default: hello}}, base: {{type: int, default: 2}}}}
steps:
  - name: first
    command: {sh('printf %s "$1" > "$2"; printf 41 > "$3"')[:-1]}, sh, "${{params.greeting}} $$5 ${{HOME}}", "${{outputs.text}}", "${{outputs.n}}"]
    outputs: {{text: {{}}, n: {{value: true}}}}
  - name: each
    foreach: {{k: [1, 2, 3]}}
    command: {sh('echo $(( $1 * $2 )) > "$ORCH_OUTPUT_OUT"; echo "$((10 * $2))" > "$ORCH_OUTPUT_SCORE"')[:-1]}, sh, "${{params.base}}", "${{item.k}}"]
    after: [first]
    outputs: {{out: {{}}, score: {{value: true}}}}
  - name: pair
    foreach: {{k: [1, 2, 3]}}
    command: {sh('cat "$1" > "$ORCH_OUTPUT_COPY"')[:-1]}, sh, "${{inputs.x}}"]
    inputs: {{x: "each[item].out"}}
    outputs: {{copy: {{}}}}
  - name: all
    command: {sh('cat "$1"/index.json; ls "$1" | wc -l; cat "$2"; printf "|%s|" "$3"; cat "$4"')[:-1]}, sh, "${{inputs.files}}", "${{inputs.scores}}", "${{values.n}}", "${{inputs.text}}"]
    inputs: {{files: "pair[*].copy", scores: "each[*].score", n: first.n, text: first.text}}
"""
        run = self.daemon.run(text, self.name, "-p", "base=7")
        log = self.daemon.ctl("logs", self.name, "all").stdout
        self.assertEqual(run["state"], "SUCCEEDED", log)
        self.assertIn("|41|", log)
        self.assertIn("hello $5 ${HOME}", log)
        self.assertIn("[10,20,30]", log.replace(" ", ""))
        copies = [self.daemon.ctl("get-artifact", f"data.pair[{i}].copy", "--output", "-").stdout for i in range(3)]
        self.assertEqual(copies, ["7\n", "14\n", "21\n"])

    def test_cache_on_the_second_run(self):
        mark = self.daemon.folder / "ran"
        text = f"""
name: cached
defaults: {{cache: {{enabled: true}}}}
steps:
  - {{name: a, command: {sh(f'echo a >> {mark}; echo 1 > "$ORCH_OUTPUT_X"')}, outputs: {{x: {{}}}}}}
  - {{name: b, command: {sh(f'echo b >> {mark}; cat "$ORCH_INPUT_X" > "$ORCH_OUTPUT_Y"')}, inputs: {{x: a.x}}, outputs: {{y: {{}}}}}}
"""
        self.assertEqual(self.daemon.run(text, self.name + "1")["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.run(text, self.name + "2")["state"], "SUCCEEDED")
        self.assertEqual({s["state"] for s in self.daemon.steps(self.name + "2").values()}, {"CACHED"})
        self.assertEqual(mark.read_text().split(), ["a", "b"])
        self.daemon.run(text, self.name + "3", "--no-cache")
        self.assertEqual(mark.read_text().split(), ["a", "b", "a", "b"])

    def test_folder_output_and_external_input(self):
        source = self.daemon.folder / "outside.txt"
        source.write_text("outside")
        text = f"""
name: folder
steps:
  - name: a
    command: {sh('mkdir -p "$ORCH_OUTPUT_D/sub"; cp "$ORCH_INPUT_F" "$ORCH_OUTPUT_D/sub/f"')}
    inputs: {{f: {{uri: "file://{source}"}}}}
    outputs: {{d: {{type: dir}}}}
  - {{name: b, command: {sh('cat "$ORCH_INPUT_D/sub/f"')}, inputs: {{d: a.d}}}}
"""
        self.assertEqual(self.daemon.run(text, self.name)["state"], "SUCCEEDED", self.daemon.steps(self.name))
        self.assertEqual(self.daemon.ctl("logs", self.name, "b").stdout, "outside")

    def early(self, early):
        """True if the consumer of a published output began before its producer ended."""
        name = f"{self.name}-{str(early).lower()}"
        gate = self.daemon.folder / f"gate-{name}"
        text = f"""
name: {name}
steps:
  - name: producer
    command: {sh(f'echo early > "$ORCH_OUTPUT_X"; orch-launch publish x; while [ ! -e {gate} ]; do sleep 0.02; done')}
    outputs: {{x: {{}}}}
  - {{name: consumer, command: {sh('cat "$ORCH_INPUT_X"')}, inputs: {{x: {{from: producer.x, early: {str(early).lower()}}}}}}}
"""
        self.daemon.submit(text, name)
        try:
            if early:
                wait_for(lambda: self.daemon.state(name, "consumer") == "SUCCEEDED", "the early consumer ends")
                self.assertEqual(self.daemon.state(name, "producer"), "RUNNING")
            else:
                published = f"{name}.producer.x"
                wait_for(lambda: self.daemon.ctl("get-artifact", published, check=False).returncode == 0, "published")
                self.assertEqual(self.daemon.state(name, "consumer"), "WAITING")
        finally:
            gate.touch()
        self.assertEqual(self.daemon.ended(name)["state"], "SUCCEEDED")
        steps = self.daemon.steps(name)
        self.assertEqual(self.daemon.ctl("logs", name, "consumer").stdout, "early\n")
        return steps["consumer"]["start_time"] < steps["producer"]["end_time"]

    def test_a_consumer_with_an_early_edge_starts_at_the_publication(self):
        self.assertTrue(self.early(True))

    def test_a_consumer_without_it_waits_for_the_end(self):
        self.assertFalse(self.early(False))


class Outcomes(LiveTest):
    def test_retries_with_back_off(self):
        text = f"""
name: retry
steps:
  - name: a
    command: {sh('test "$ORCH_ATTEMPT" = 3')}
    retry: {{max_attempts: 3, backoff: {{initial: 200ms, multiplier: 2, jitter: 0}}}}
"""
        self.assertEqual(self.daemon.run(text, self.name)["state"], "SUCCEEDED")
        step = self.daemon.step(self.name, "a")
        self.assertEqual([a["state"] for a in step["attempts"]], ["FAILED", "FAILED", "SUCCEEDED"])
        self.assertEqual(step["attempts"][0]["exit_code"], 1)

        def seconds(text):
            hours, minutes, rest = text.split("T")[1].rstrip("Z").split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(rest)
        for earlier, later, pause in zip(step["attempts"], step["attempts"][1:], (0.2, 0.4)):
            self.assertGreaterEqual(seconds(later["start_time"]) - seconds(earlier["end_time"]), pause - 0.01)

    def test_time_out(self):
        text = f"name: t\nsteps:\n  - {{name: a, command: {sh('sleep 600')}, timeout: {{run: 300ms}}}}\n"
        self.assertEqual(self.daemon.run(text, self.name)["state"], "FAILED")
        self.assertEqual(self.daemon.step(self.name, "a")["attempts"][0]["state"], "TIMED_OUT")

    MODES = """
name: modes
execution_mode: {mode}
steps:
  - {{name: bad, command: {bad}}}
  - {{name: after-bad, command: [/bin/true], after: [bad]}}
  - {{name: slow, command: {slow}}}
  - {{name: after-slow, command: [/bin/true], after: [slow]}}
"""

    def mode(self, mode):
        begun, gate = self.daemon.folder / f"begun-{mode}", self.daemon.folder / f"gate-{mode}"
        text = self.MODES.format(mode=mode, bad=sh(f"while [ ! -e {begun} ]; do sleep 0.02; done; exit 3"),
                                 slow=sh(f"touch {begun}; while [ ! -e {gate} ]; do sleep 0.02; done"))
        self.daemon.submit(text, f"mode-{mode}")
        wait_for(lambda: self.daemon.state(f"mode-{mode}", "bad") == "FAILED", "the bad step fails")
        gate.touch()
        self.assertEqual(self.daemon.ended(f"mode-{mode}")["state"], "FAILED")
        return {name: step["state"] for name, step in self.daemon.steps(f"mode-{mode}").items()}

    def test_continue_on_failure(self):
        self.assertEqual(self.mode("continue_on_failure"),
                         {"bad": "FAILED", "after-bad": "SKIPPED", "slow": "SUCCEEDED", "after-slow": "SUCCEEDED"})

    def test_stop_on_failure(self):
        self.assertEqual(self.mode("stop_on_failure"),
                         {"bad": "FAILED", "after-bad": "SKIPPED", "slow": "SUCCEEDED", "after-slow": "SKIPPED"})

    def test_fail_fast(self):
        self.daemon.submit(self.MODES.format(mode="fail_fast", bad=sh("sleep 0.3; exit 3"), slow=sh("sleep 600")),
                           self.name)
        self.assertEqual(self.daemon.ended(self.name)["state"], "FAILED")
        self.assertEqual({name: step["state"] for name, step in self.daemon.steps(self.name).items()},
                         {"bad": "FAILED", "after-bad": "SKIPPED", "slow": "CANCELLED", "after-slow": "SKIPPED"})

    def test_cancel_ends_the_whole_tree(self):
        pids = self.daemon.folder / "pids"
        child = self.daemon.folder / "child.sh"
        child.write_text(f"trap '' TERM\necho $$ >> {pids}\nwhile :; do sleep 1; done\n")
        text = f"name: tree\nsteps:\n  - {{name: a, command: {sh(f'setsid sh {child} & echo $$ >> {pids}; wait')}}}\n"
        self.daemon.submit(text, self.name)
        wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2, "both processes run")
        found = [int(pid) for pid in pids.read_text().split()]
        self.daemon.ctl("cancel-run", self.name)
        self.assertEqual(self.daemon.ctl("wait-run", self.name, check=False).returncode, 5)
        self.assertEqual(self.daemon.state(self.name, "a"), "CANCELLED")
        self.assertEqual([pid for pid in found if alive(pid)], [])

    def test_what_is_left_is_killed_on_success_too(self):
        pids = self.daemon.folder / "left"
        text = f"name: left\nsteps:\n  - {{name: a, command: {sh(f'setsid sleep 600 & echo $! > {pids}')}}}\n"
        self.assertEqual(self.daemon.run(text, self.name)["state"], "SUCCEEDED")
        self.assertFalse(alive(int(pids.read_text())))

    def test_logs_are_byte_exact_and_apart(self):
        text = f"name: logs\nsteps:\n  - {{name: a, command: {sh('printf out; printf err >&2')}}}\n"
        self.daemon.run(text, self.name)
        self.assertEqual(self.daemon.ctl("logs", self.name, "a", "--stream", "stdout").stdout, "out")
        self.assertEqual(self.daemon.ctl("logs", self.name, "a", "--stream", "stderr").stdout, "err")


class Digits(LiveTest):
    def test_twice(self):
        example = pathlib.Path(__file__).resolve().parents[2] / "examples" / "digits" / "pipeline.yaml"
        for name in ("digits-1", "digits-2"):
            self.daemon.ctl("submit", example, "--name", name, "--wait", "--no-start", timeout=300)
        self.assertEqual({step["state"] for step in self.daemon.steps("digits-1").values()}, {"SUCCEEDED"})
        self.assertEqual({step["state"] for step in self.daemon.steps("digits-2").values()}, {"CACHED"})
        report = self.daemon.ctl("get-artifact", "digits-report", "--output", "-").stdout
        self.assertIn("<html", report.lower())
        winner = self.daemon.json("list-artifacts", "--run", "digits-1")["artifacts"]
        winner = [a for a in winner if a["output"] == "winner"][0]["value"]
        self.assertGreater(float(winner["accuracy"]), 0.9)


if __name__ == "__main__":
    unittest.main()
