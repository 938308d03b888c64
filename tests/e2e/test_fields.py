"""Fields of a pipeline that no other test is about: each does what docs/pipelines.md says, or is refused."""
import json
import unittest

from tests.lib.daemon import Daemon, wait_for


class Fields(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon("flavors: {fake: true}\n")
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()
        cls.daemon.ctl("apply", "-f", cls.daemon.file("""
orchestrators:
  - {name: fake, flavor: fake}
  - {name: small, flavor: local, config: {cpus: 4, memory: 1Gi}}
""", "site.yaml"), "--yes")

    def stored(self, pipeline: str) -> dict:
        status, text = self.daemon.http("/orch.v1.PipelineService/GetPipeline", {"name": pipeline})
        self.assertEqual(status, 200, text)
        return json.loads(text)["pipeline"]

    def refused(self, text: str, *words: str) -> None:
        error = self.daemon.ctl("submit", self.daemon.file(text), code=8).stderr
        for word in words:
            self.assertIn(word, error)

    def test_words_for_people_and_labels(self) -> None:
        # covers: Pipeline.description Parameter.description Pipeline.labels StepSpec.labels
        text = """
name: words
description: what it is for
labels: {team: vision}
parameters: {n: {default: 1, description: how many}}
steps:
  - {name: a, command: ['true'], labels: {part: training}}
"""
        run = self.daemon.submit(text, "--label", "ticket=7")
        stored = self.stored("words")
        self.assertEqual((stored["description"], stored["parameters"]["n"]["description"]), ("what it is for", "how many"))
        self.assertEqual(stored["steps"][0]["labels"], {"part": "training"})
        for label in ("team=vision", "ticket=7"):
            self.assertEqual([r["name"] for r in self.daemon.json("list-runs", "--filter", f"label.{label}")["runs"]], [run])
        self.assertEqual(self.daemon.json("list-runs", "--filter", "label.team=audio")["runs"], [])
        step = "steps:\n  - {name: a, command: ['true']"
        self.refused(f"name: p\ndescription: {'x' * 10_001}\n{step}}}\n", ":2:", "description")
        many = ", ".join(f"l{i}: x" for i in range(65))
        self.refused(f"name: p\nlabels: {{{many}}}\n{step}}}\n", ":2:", "labels")
        self.refused(f"name: p\n{step}, labels: {{{many}}}}}\n", ":3:", "labels")

    def test_parameters_of_every_type(self) -> None:
        # covers: Pipeline.parameters Parameter.type Parameter.default StepSpec.params
        # covers: Parameter.Type.STRING Parameter.Type.INT Parameter.Type.FLOAT Parameter.Type.BOOL Parameter.Type.JSON
        text = """
name: types
parameters:
  s: {type: string, default: '7'}
  i: {type: int}
  f: {type: float, default: 2}
  b: {type: bool, default: false}
  j: {type: json, default: {a: [1]}}
  bare: 3
steps:
  - {name: all, command: [sh, -c, 'cat "$ORCH_PARAMS"'], params: [s, i, f, b, j, bare]}
  - {name: two, command: [sh, -c, 'cat "$ORCH_PARAMS"', '${params.b}'], params: [i]}
  - {name: none, command: [sh, -c, 'cat "$ORCH_PARAMS"']}
"""
        run = self.daemon.submit(text, "-p", "i=5", "-p", "b=true", "--wait")
        said = {step: json.loads(self.daemon.ctl("logs", run, step).stdout) for step in ("all", "two", "none")}
        self.assertEqual(said["all"], {"s": "7", "i": 5, "f": 2, "b": True, "j": {"a": [1]}, "bare": 3})
        self.assertEqual((said["two"], said["none"]), ({"i": 5, "b": True}, {}))
        for wrong in ("i=half", "i=1.5", "f=half", "b=yes", "bare=x"):
            error = self.daemon.ctl("submit", self.daemon.file(text), *(["-p", "i=1"] if wrong[0] != "i" else []), "-p", wrong, code=8).stderr
            self.assertIn(wrong.split("=")[0], error)
        self.refused(text, "parameters.i")  # it has no default

    def test_where_it_runs(self) -> None:
        # covers: StepSpec.working_dir StepSpec.orchestrator StepSpec.settings StepSpec.env StepSpec.source Source.path
        (self.daemon.home / "code/sub-a").mkdir(parents=True, exist_ok=True)
        text = """
name: where
steps:
  - {name: here, command: [pwd]}
  - {name: there, command: [pwd], working_dir: code}
  - {name: source, command: [pwd], source: {path: code}, foreach: {d: [a]}, working_dir: 'sub-${item.d}'}
  - {name: elsewhere, command: [pwd], orchestrator: small, env: {N: '1'}}
  - {name: scripted, command: ['-'], orchestrator: fake, settings: {fake: {outcome: fail}}}
"""
        run = self.daemon.ctl("submit", self.daemon.file(text), "--wait", code=1).stdout.strip()
        home = str(self.daemon.home)
        self.assertEqual([self.daemon.ctl("logs", run, step).stdout.strip() for step in ("here", "there", "source[0]")],
                         [home, home + "/code", home + "/code/sub-a"])
        steps = self.daemon.steps(run)
        self.assertEqual({name: step["orchestrator"] for name, step in steps.items()},
                         {"here": "local", "there": "local", "source[0]": "local", "elsewhere": "small", "scripted": "fake"})
        self.assertEqual((steps["scripted"]["state"], steps["elsewhere"]["state"]), ("FAILED", "SUCCEEDED"))
        gone = self.daemon.run("name: gone\nsteps:\n  - {name: a, command: [pwd], working_dir: no/such}\n", code=1)
        self.assertEqual(gone["a"]["reason"], "WORKING_DIR_INVALID")
        step = "name: p\nsteps:\n  - name: a\n    command: ['true']\n    "
        self.refused(step + "orchestrator: nowhere\n", ":5:", "nowhere")
        self.refused(step + "settings: {local: {colour: red}}\n", ":5:", "colour")

    def test_artifacts_by_name_and_folders(self) -> None:
        # covers: StepSpec.outputs Output.type Output.as
        run = self.daemon.submit("""
name: named
steps:
  - name: a
    command: [sh, -c, 'mkdir -p ${outputs.tree}/sub; echo leaf > ${outputs.tree}/sub/leaf; echo m > ${outputs.model}']
    outputs: {tree: {type: dir}, model: {type: pickle, as: best-model}}
  - name: b
    command: [cat, '${inputs.tree}/sub/leaf']
    inputs: {tree: a.tree}
""", "--wait")
        self.assertEqual(self.daemon.ctl("logs", run, "b").stdout, "leaf\n")
        model = self.daemon.json("get-artifact", "best-model")
        self.assertEqual((model["name"], model["type"], model["version"]), ("best-model", "pickle", 1))
        self.assertEqual(self.daemon.json("get-artifact", "named.a.tree")["type"], "dir")
        self.daemon.ctl("delete-run", run)
        wait_for("the run's own artifact to go", lambda: self.daemon.ctl("get-artifact", "named.a.tree", code=None).returncode == 3)
        self.assertEqual(self.daemon.json("get-artifact", "best-model")["version"], 1)  # it has a name of its own
        wrong = self.daemon.run("name: wrong\nsteps:\n  - name: a\n    command: [sh, -c, 'echo x > ${outputs.d}']\n"
                                "    outputs: {d: {type: dir}}\n", code=1)
        self.assertEqual(wrong["a"]["state"], "FAILED")

    def test_every_trigger_rule(self) -> None:
        # covers: StepSpec.after StepSpec.trigger_rule StepSpec.TriggerRule.ALL_SUCCESS StepSpec.TriggerRule.ALL_DONE
        # covers: StepSpec.TriggerRule.ONE_SUCCESS StepSpec.TriggerRule.ONE_FAILED StepSpec.TriggerRule.ALL_FAILED
        # covers: StepSpec.TriggerRule.NONE_FAILED
        # ok: succeeds. bad: fails. skipped: skipped for another reason than a failure.
        runs = {
            "all_success": {"ok ok": True, "ok bad": False, "bad bad": False, "ok skipped": False},
            "all_done": {"ok ok": True, "ok bad": True, "bad bad": True, "ok skipped": True},
            "one_success": {"ok ok": True, "ok bad": True, "bad bad": False, "ok skipped": True},
            "one_failed": {"ok ok": False, "ok bad": True, "bad bad": True, "ok skipped": False},
            "all_failed": {"ok ok": False, "ok bad": False, "bad bad": True, "bad skipped": False},
            "none_failed": {"ok ok": True, "ok bad": False, "bad skipped": False, "ok skipped": True},
        }
        text, expected = """
name: rules
steps:
  - {name: ok, command: ['true']}
  - {name: ok2, command: ['true']}
  - {name: bad, command: ['false']}
  - {name: bad2, command: ['false']}
  - {name: skipped, command: ['true'], after: [ok], trigger_rule: one_failed}
""", {}
        for rule, cases in runs.items():
            for upstreams, goes in cases.items():
                first, second = upstreams.split()
                name = f"{rule}-{first}-{second}"
                expected[name] = "SUCCEEDED" if goes else "SKIPPED"
                after = [first, second + "2" if first == second else second]
                text += f"  - {{name: {name}, command: ['true'], after: [{', '.join(after)}], trigger_rule: {rule}}}\n"
        steps = self.daemon.run(text, code=1)
        self.assertEqual({name: steps[name]["state"] for name in expected}, expected)

    def test_a_fan_out_as_programs_write_it(self) -> None:
        # covers: StepSpec.foreach ForeachKey.key ForeachKey.values
        def submit(*foreach: dict) -> tuple[int, dict]:
            step = {"name": "a", "command": ["echo", "${item.x}${item.y}"], "foreach": foreach}
            status, text = self.daemon.http("/orch.v1.RunService/SubmitRun", {"pipeline": {"name": "keys", "steps": [step]}})
            return status, json.loads(text)

        status, run = submit({"key": "x", "values": [1, 2]}, {"key": "y", "values": ["a", "b", "c"]})
        self.assertEqual(status, 200, run)
        self.daemon.ctl("wait-run", run["name"])
        said = [self.daemon.ctl("logs", run["name"], f"a[{i}]").stdout.strip() for i in range(6)]
        self.assertEqual(said, ["1a", "1b", "1c", "2a", "2b", "2c"])  # the last key varies fastest
        for wrong in ({"values": [1]}, {"key": "x y", "values": [1]}, {"key": "x"}):
            status, refusal = submit(wrong)
            self.assertEqual(status, 400, refusal)
            self.assertIn("foreach", json.dumps(refusal))
        status, refusal = submit({"key": "x", "values": [1]}, {"key": "x", "values": [2]})
        self.assertEqual(status, 400, refusal)

    def test_timeouts_by_their_names(self) -> None:
        # covers: Timeout.run
        steps = self.daemon.run("name: slow\nsteps:\n  - {name: a, command: [sleep, '60'], timeout: {queue: 1h, run: 200ms}}\n"
                                "  - {name: b, command: ['true'], timeout: {run: 1h}}\n", code=1)
        self.assertEqual([(steps[n]["state"], steps[n]["reason"]) for n in "ab"],
                         [("FAILED", "RUN_TIMEOUT"), ("SUCCEEDED", "REASON_UNSPECIFIED")])

    def test_memory_is_counted_and_disk_refused(self) -> None:
        # covers: StepSpec.resources Resources.memory Resources.disk
        gate = self.daemon.home / "memory-gate"
        run = self.daemon.submit(f"""
name: memory
steps:
  - name: a
    foreach: {{i: [1, 2]}}
    command: [sh, -c, 'while [ ! -e {gate} ]; do sleep 0.02; done']
    resources: {{cpu: 0.5, memory: 600Mi}}
""", "--orchestrator", "small")
        states = lambda: {step["state"] for step in self.daemon.steps(run).values()}  # noqa: E731
        wait_for("one of 600 MiB to run, the other to wait for memory", lambda: states() == {"RUNNING", "READY"})
        waiting = next(name for name, step in self.daemon.steps(run).items() if step["state"] == "READY")
        self.assertEqual(self.daemon.json("why", run, waiting)["causes"][0]["pool"], "small/memory")
        gate.touch()
        self.daemon.ctl("wait-run", run)
        step = "name: p\nsteps:\n  - name: a\n    command: ['true']\n    "
        self.refused(step + "resources: {disk: 9007199254740993}\n", ":5:", "disk")
        self.refused(step + "resources: {disk: 5G}\n", ":5:", "this machine's disk is not divided among local steps")

    def test_platform_attempts_are_a_budget_of_their_own(self) -> None:
        # covers: Retry.platform_attempts
        step = "  - {{name: {}, command: ['-'], retry: {{max_attempts: {}, platform_attempts: {}, backoff: {{initial: 1ms}}}}, settings: {{fake: {}}}}}\n"
        run = self.daemon.submit("name: budget\nsteps:\n"
                                 + step.format("never", 1, 4, "{outcome: unschedulable}")
                                 + step.format("once", 9, 1, "{outcome: unschedulable}")
                                 + step.format("third", 1, 3, "{outcome: unschedulable, fail_attempts: 2}")
                                 + step.format("failed", 2, 9, "{outcome: fail}"), "--orchestrator", "fake")
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual({n: (s["state"], s["attempt"], s["reason"]) for n, s in self.daemon.steps(run).items()},
                         {"never": ("FAILED", 4, "UNSCHEDULABLE"), "once": ("FAILED", 1, "UNSCHEDULABLE"),
                          "third": ("SUCCEEDED", 3, "REASON_UNSPECIFIED"), "failed": ("FAILED", 2, "EXIT_CODE")})
        self.assertIn("its command never began; platform_attempts is 4", self.daemon.ctl("why", run, "never").stdout)

    def test_an_image_is_kept_and_a_build_of_one_refused(self) -> None:
        # covers: StepSpec.image Image.reference Image.build Image.Build.base Image.Build.apt_packages
        # covers: Image.Build.requirements Image.Build.requirements_file Image.Build.env Image.Build.platform
        # covers: Image.Build.registry
        self.daemon.run("name: image\nsteps:\n  - {name: a, command: ['true'], image: 'python:3.11'}\n")
        self.assertEqual(self.stored("image")["steps"][0]["image"], {"reference": "python:3.11"})
        for field in ("base: debian:12", "apt_packages: [git]", "requirements: [numpy]", "requirements_file: r.txt",
                      "env: {A: b}", "platform: linux/amd64", "registry: example.org/team"):
            file = self.daemon.file(f"name: p\nsteps:\n  - name: a\n    command: ['true']\n    image:\n      build:\n        {field}\n")
            said = self.daemon.ctl("validate", file, code=8).stderr  # which goes to the daemon as it is
            self.assertIn("image is built by `orchctl submit`", said)
        self.refused("name: p\nsteps:\n  - name: a\n    command: ['true']\n    image: {build: {basis: x}}\n", ":5:", "basis")


if __name__ == "__main__":
    unittest.main()
