"""What a pipeline can say, run by the real binaries."""
import json
import time
import unittest

from tests.lib.daemon import Daemon, alive, wait_for


class Pipelines(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon("grace: 2s\n")
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    def test_data_values_templates_and_fan_outs(self) -> None:
        # covers: Pipeline.name Pipeline.parameters Pipeline.steps StepSpec.name StepSpec.command StepSpec.inputs
        # covers: StepSpec.outputs StepSpec.foreach ForeachKey.values Output.value
        steps = self.daemon.run("""
name: data
parameters: {greeting: {type: string, default: hi}, n: 3}
steps:
  - name: gen
    command: [sh, -c, 'printf %s "${params.greeting}" > ${outputs.text}; echo "[${params.n}, 4]" > ${outputs.list}; cat $ORCH_PARAMS']
    outputs: {text: {type: txt}, list: {value: true}}
  - name: each
    foreach: {a: [x, y], b: [1, 2]}
    command: [sh, -c, 'printf "%s-%s%s " "$(cat ${inputs.text})" ${item.a} ${item.b} > ${outputs.o}']
    inputs: {text: gen.text}
    outputs: {o: {}}
  - name: same
    foreach: {b: [2, 1], a: [y, x]}
    command: [sh, -c, 'cat $ORCH_INPUT_I > $ORCH_OUTPUT_O']
    inputs: {i: "each[item].o"}
    outputs: {o: {}}
  - name: join
    command: [sh, -c, 'cat ${inputs.parts}/0* > ${outputs.all}; cp ${inputs.parts}/index.json ${outputs.index}; echo "${values.list} $$HOME"']
    inputs: {parts: "same[*].o", list: gen.list}
    outputs: {all: {}, index: {type: json}}
""", "--param", "greeting=hello world", "--name", "data-1")
        self.assertEqual({s["state"] for s in steps.values()}, {"SUCCEEDED"})
        out = self.daemon.home / "all"
        self.daemon.ctl("get-artifact", "data.join.all", "--output", out)
        self.assertEqual(out.read_text(), "hello world-y2 hello world-x2 hello world-y1 hello world-x1 ")
        self.daemon.ctl("get-artifact", "data.join.index", "--output", out)
        index = json.loads(out.read_text())
        self.assertEqual(index[0]["item"], {"b": 2, "a": "y"})
        self.assertTrue(index[0]["digest"].startswith("sha256:"))
        log = self.daemon.ctl("logs", "data-1", "join").stdout
        self.assertIn("[3,4] ", log)
        self.assertEqual(json.loads(self.daemon.ctl("logs", "data-1", "gen").stdout), {"greeting": "hello world", "n": 3})

    def test_environment_is_exact(self) -> None:
        # covers: StepSpec.env
        self.daemon.run("name: env\nsteps:\n  - name: a\n    command: [env]\n    env: {MINE: 'x ${step.name}'}\n",
                        "--name", "env-1")
        names = dict(line.split("=", 1) for line in self.daemon.ctl("logs", "env-1", "a").stdout.splitlines())
        allowed = {"PATH", "HOME", "USER", "LANG", "TZ", "VIRTUAL_ENV", "MINE", "PWD", "SHLVL", "_"}
        self.assertEqual([n for n in names if not n.startswith("ORCH_") and n not in allowed], [])
        self.assertEqual(names["MINE"], "x a")
        self.assertEqual(names["ORCH_STEP"], "a")
        self.assertEqual(names["ORCH_ATTEMPT"], "1")

    def test_streams_are_apart_and_exact(self) -> None:
        self.daemon.run("name: out\nsteps:\n  - name: a\n    command: [sh, -c, 'printf \"a\\0b\"; printf err >&2']\n",
                        "--name", "out-1")
        self.assertEqual(self.daemon.ctl("logs", "out-1", "a", "--stream", "stdout").stdout, "a\0b")
        self.assertEqual(self.daemon.ctl("logs", "out-1", "a", "--stream", "stderr").stdout, "err")

    def test_cache_on_the_second_run(self) -> None:
        # covers: StepSpec.cache
        text = """
name: cached
defaults: {cache: {enabled: true}}
steps:
  - name: a
    command: [sh, -c, 'date +%N > ${outputs.x}']
    outputs: {x: {}}
  - name: b
    command: [cat, '${inputs.x}']
    inputs: {x: a.x}
"""
        self.daemon.run(text, "--name", "cached-1")
        second = self.daemon.run(text, "--name", "cached-2")
        self.assertEqual({s["state"] for s in second.values()}, {"CACHED"})
        self.assertEqual(second["a"]["cached_from"], "cached-1")
        self.assertEqual({s["state"] for s in self.daemon.run(text, "--no-cache").values()}, {"SUCCEEDED"})

    def test_changed_source_file_is_no_hit(self) -> None:
        text = "name: src\nsteps:\n  - name: a\n    command: [sh, tool.sh]\n    cache: {enabled: true}\n"
        self.daemon.file("echo 1\n", "tool.sh")
        self.assertEqual(self.daemon.run(text)["a"]["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.run(text)["a"]["state"], "CACHED")
        self.daemon.file("echo 2\n", "tool.sh")
        self.assertEqual(self.daemon.run(text)["a"]["state"], "SUCCEEDED")

    def test_external_file(self) -> None:
        # covers: Input.uri
        path = self.daemon.file("outside", "outside.txt")
        self.daemon.run(f"name: ext\nsteps:\n  - name: a\n    command: [cat, '${{inputs.f}}']\n"
                        f"    inputs: {{f: {{uri: 'file://{path}'}}}}\n", "--name", "ext-1")
        self.assertEqual(self.daemon.ctl("logs", "ext-1", "a").stdout, "outside")
        gone = self.daemon.run("name: ext\nsteps:\n  - name: a\n    command: [cat]\n"
                               "    inputs: {f: {uri: 'file:///no/such/file'}}\n", code=1)
        self.assertEqual(gone["a"]["reason"], "INPUT_MISSING")

    def test_retry_with_back_off(self) -> None:
        marks = self.daemon.home / "flaky"
        step = self.daemon.run(f"""
name: flaky
steps:
  - name: a
    command: [sh, -c, 'date +%s.%N >> {marks}; [ $(wc -l < {marks}) -ge 3 ]']
    retry: {{max_attempts: 5, backoff: {{initial: 200ms, multiplier: 2}}}}
""")["a"]
        self.assertEqual((step["state"], step["attempt"]), ("SUCCEEDED", 3))
        times = [float(t) for t in marks.read_text().split()]
        self.assertGreaterEqual(times[1] - times[0], 0.2)
        self.assertGreaterEqual(times[2] - times[1], 0.4)

    def test_time_outs(self) -> None:
        # covers: Pipeline.timeout StepSpec.timeout
        steps = self.daemon.run("name: slow\nsteps:\n  - name: a\n    command: [sleep, '60']\n    timeout: 300ms\n",
                                code=1)
        self.assertEqual((steps["a"]["state"], steps["a"]["reason"]), ("FAILED", "RUN_TIMEOUT"))
        name = self.daemon.submit("name: whole\ntimeout: 300ms\nsteps:\n  - name: a\n    command: [sleep, '60']\n"
                                  "  - name: b\n    command: ['true']\n    after: [a]\n")
        self.daemon.ctl("wait-run", name, code=1)
        self.assertEqual(self.daemon.json("get-run", name)["reason"], "RUN_DEADLINE")
        self.assertEqual(self.daemon.steps(name)["b"]["state"], "SKIPPED")

    def test_execution_modes(self) -> None:
        # covers: Pipeline.execution_mode Pipeline.ExecutionMode.CONTINUE_ON_FAILURE Pipeline.ExecutionMode.FAIL_FAST
        # covers: Pipeline.ExecutionMode.STOP_ON_FAILURE
        text = """
name: modes
execution_mode: MODE
steps:
  - name: bad
    command: [sh, -c, 'while [ ! -e GATE ]; do sleep 0.02; done; exit 1']
    resources: {cpu: 0}
  - name: needs-bad
    command: ['true']
    after: [bad]
    resources: {cpu: 0}
  - name: live
    command: [sh, -c, 'touch GATE; sleep 0.7']
    resources: {cpu: 0}
  - name: later
    command: ['true']
    after: [live]
    resources: {cpu: 0}
"""
        expected = {
            "continue_on_failure": ("SKIPPED", "SUCCEEDED", "SUCCEEDED"),
            "stop_on_failure": ("SKIPPED", "SUCCEEDED", "SKIPPED"),
            "fail_fast": ("SKIPPED", "CANCELLED", "SKIPPED"),
        }
        for mode, states in expected.items():
            with self.subTest(mode):
                gate = self.daemon.home / f"gate-{mode}"
                steps = self.daemon.run(text.replace("MODE", mode).replace("GATE", str(gate)), code=1)
                self.assertEqual(steps["bad"]["state"], "FAILED")
                self.assertEqual(tuple(steps[n]["state"] for n in ("needs-bad", "live", "later")), states)

    def test_trigger_rules(self) -> None:
        steps = self.daemon.run("""
name: rules
steps:
  - {name: bad, command: ['false']}
  - {name: good, command: ['true']}
  - {name: cleanup, command: ['true'], after: [bad, good], trigger_rule: all_done}
  - {name: alarm, command: ['true'], after: [bad, good], trigger_rule: one_failed}
  - {name: never, command: ['true'], after: [good], trigger_rule: all_failed}
""", code=1)
        self.assertEqual([steps[n]["state"] for n in ("cleanup", "alarm", "never")],
                         ["SUCCEEDED", "SUCCEEDED", "SKIPPED"])

    def test_cancel_ends_a_child_that_called_setsid(self) -> None:
        pid_file = self.daemon.home / "pid"
        name = self.daemon.submit(f"""
name: stuck
steps:
  - name: a
    command: [sh, -c, 'setsid sh -c "echo \\$\\$ > {pid_file}; trap : TERM; while :; do sleep 0.1; done" & wait']
""")
        pid = int(wait_for("the child", lambda: pid_file.exists() and pid_file.read_text().strip()))
        self.daemon.ctl("cancel-run", name)
        self.daemon.ctl("wait-run", name, code=5)
        self.assertEqual(self.daemon.state(name), "CANCELLED")
        self.assertFalse(alive(pid))
        self.daemon.ctl("cancel-run", name)  # again: nothing changes

    def test_children_left_behind_die_with_their_step(self) -> None:
        pid_file = self.daemon.home / "left"
        self.daemon.run(f"name: left\nsteps:\n  - name: a\n    command: [sh, -c, 'setsid sleep 300 & echo $! > {pid_file}']\n")
        self.assertFalse(alive(int(pid_file.read_text())))

    def test_early_publication(self) -> None:
        # covers: Input.early Input.from
        gate = self.daemon.home / "early-gate"
        steps = self.daemon.run(f"""
name: early
steps:
  - name: producer
    command: [sh, -c, 'echo v > ${{outputs.x}}; orch-launch publish x; while [ ! -e {gate} ]; do sleep 0.02; done']
    outputs: {{x: {{}}}}
    resources: {{cpu: 0}}
  - name: eager
    command: [sh, -c, 'cat ${{inputs.x}}; touch {gate}']
    inputs: {{x: {{from: producer.x, early: true}}}}
    resources: {{cpu: 0}}
  - name: patient
    command: [test, -e, '{gate}']
    inputs: {{x: producer.x}}
    resources: {{cpu: 0}}
""")
        self.assertEqual({s["state"] for s in steps.values()}, {"SUCCEEDED"})
        self.assertLess(steps["eager"]["start_time"], steps["producer"]["end_time"])
        self.assertGreaterEqual(steps["patient"]["start_time"], steps["producer"]["end_time"])

    def test_pools_limit_what_runs(self) -> None:
        # covers: StepSpec.pools
        self.daemon.ctl("apply", "-f", self.daemon.file("pools: [{name: db, slots: 1}]\n", "pools.yaml"), "--yes")
        marks = self.daemon.home / "pool-marks"
        self.daemon.run(f"""
name: pooled
steps:
  - name: a
    foreach: {{i: [1, 2, 3, 4]}}
    command: [sh, -c, 'echo in >> {marks}; sleep 0.05; echo out >> {marks}']
    pools: [db]
    resources: {{cpu: 0}}
""")
        self.assertEqual(marks.read_text().split(), ["in", "out"] * 4)

    def test_priority_goes_first(self) -> None:
        # covers: StepSpec.priority
        order = self.daemon.home / "order"
        self.daemon.ctl("apply", "-f", self.daemon.file("pools: [{name: one, slots: 1}]\n", "pools.yaml"), "--yes")
        self.daemon.run(f"""
name: prio
steps:
  - {{name: first, command: [sleep, '0.3'], pools: [one], priority: 9}}
  - {{name: low, command: [sh, -c, 'echo low >> {order}'], pools: [one]}}
  - {{name: high, command: [sh, -c, 'echo high >> {order}'], pools: [one], priority: 5}}
""")
        self.assertEqual(order.read_text().split(), ["high", "low"])

    def test_request_id_starts_one_run(self) -> None:
        text = "name: once\nsteps:\n  - name: a\n    command: ['true']\n"
        first = self.daemon.submit(text, "--request-id", "r-1")
        self.assertEqual(self.daemon.submit(text, "--request-id", "r-1"), first)
        self.assertEqual(len(self.daemon.json("list-runs", "--filter", "pipeline=once")["runs"]), 1)

    def test_follow_logs_live(self) -> None:
        gate = self.daemon.home / "log-gate"
        name = self.daemon.submit(f"name: live\nsteps:\n  - name: a\n    command: "
                                  f"[sh, -c, 'echo one; while [ ! -e {gate} ]; do sleep 0.02; done; echo two']\n")
        wait_for("the first line", lambda: self.daemon.ctl("logs", name, "a", code=None).stdout == "one\n")
        gate.touch()
        self.assertEqual(self.daemon.ctl("logs", name, "a", "--follow").stdout, "one\ntwo\n")

    def test_wait_times_out(self) -> None:
        name = self.daemon.submit("name: wait\nsteps:\n  - name: a\n    command: [sleep, '30']\n")
        started = time.monotonic()
        self.daemon.ctl("wait-run", name, "--timeout", "300ms", code=6)
        self.assertLess(time.monotonic() - started, 5)
        self.daemon.ctl("cancel-run", name, "--force")


if __name__ == "__main__":
    unittest.main()
