"""Stock ZenML pipelines on orchd; their outcomes as ZenML's own client tells them. Run by tests/zenml/run, in a virtual
environment with ZenML."""
import json
import os
import sys
import unittest

from world import PIPELINES, daemon, python  # before ZenML, which reads its environment

from zenml.client import Client
from zenml.enums import ExecutionStatus

BOTH = ("training", "first", "branches", "caching", "retries", "modes", "hooks", "resources", "surroundings", "metadata",
        "configured", "materialized", "fan", "ordered", "models", "lifecycle", "artifacts", "dynamic")  # fmt: skip
_played = {}


def play(stack, *names):
    """The files on the stack; by name how long each took, and its runs in ZenML."""
    daemon()
    environment = {**os.environ, "ZENML_ACTIVE_STACK_ID": str(Client().get_stack(stack).id)}
    done = python("play.py", *names, cwd=PIPELINES, env=environment)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for one in found:
        if one["fault"]:
            raise AssertionError(f"{one['name']} on {stack}: {one['fault']}\n{done.stderr[-6000:]}")
    return {one["name"]: one for one in found}


class Stock(unittest.TestCase):
    """The same files on orchd and on ZenML's own `local` orchestrator."""

    @classmethod
    def setUpClass(cls):
        for stack in ("orchd", "default"):
            _played[stack] = play(stack, *BOTH)
        print("seconds, in one process:           orchd   local", file=sys.stderr)
        for name in BOTH:
            ours, theirs = (_played[stack][name]["seconds"] for stack in ("orchd", "default"))
            print(f"  {name:<30} {ours:7.1f} {theirs:7.1f}", file=sys.stderr)

    def runs(self, name, stack):
        return [Client().get_pipeline_run(run) for run in _played[stack][name]["runs"]]

    def steps_of(self, run):
        return {name: step.status.value for name, step in run.steps.items()}

    def each(self, name):
        """The runs of the file on both; of those on orchd what only they have."""
        found = [self.runs(name, stack) for stack in ("orchd", "default")]
        for run in found[0]:
            self.in_orchd(run)
        return found

    def in_orchd(self, run):
        """orchd tells the same of the run: name, id, states."""
        known = daemon().client.get_run(run.orchestrator_run_id)
        self.assertEqual(known.name, run.name)
        self.assertEqual(run.run_metadata["orchestrator_url"], str(known.run_metadata["orchestrator_url"]))
        self.assertEqual(run.run_metadata["orchestrator_run_id"], known.id)
        self.assertTrue(run.run_metadata["orchestrator_logs_url"].startswith("http"))
        state = {"SUCCEEDED": ("completed", "cached"), "FAILED": ("failed",), "CANCELLED": ("stopped",)}[known.state]
        self.assertIn(run.status.value, state)
        same = {"completed": "SUCCEEDED", "cached": "SUCCEEDED", "failed": "FAILED", "stopped": "CANCELLED"}
        states = {step.name: step.state for step in daemon().client.list_steps(known)}
        for name, step in run.steps.items():
            if not run.snapshot.is_dynamic:
                self.assertEqual(states[name], same[step.status.value], name)

    def output(self, run, step, name="output"):
        return run.steps[step].outputs[name][0].load()

    def all_completed(self, name, number=1):
        found = self.each(name)
        for runs in found:
            self.assertEqual([run.status for run in runs], [ExecutionStatus.COMPLETED] * number)
        return found

    def test_data_is_passed(self):
        for (run,) in self.all_completed("first"):
            self.assertEqual(self.output(run, "total"), 12.0)

    def test_a_model_is_trained(self):
        for (run,) in self.all_completed("training"):
            self.assertGreater(self.output(run, "evaluator", "test_acc"), 0.8)
            self.assertEqual(type(self.output(run, "svc_trainer", "trained_model")).__name__, "SVC")

    def test_outputs_are_artifacts_of_orchd(self):
        (run,) = self.runs("training", "orchd")
        step = daemon().client.get_step(run.name, "svc_trainer")
        self.assertEqual(set(step.outputs), {"trained_model", "training_acc"})
        told = json.loads(b"".join(daemon().client._pieces_of(step.outputs["trained_model"])))
        version = run.steps["svc_trainer"].outputs["trained_model"][0]
        self.assertEqual(
            (told["name"], told["version"], told["uri"], told["id"]),
            (version.artifact.name, version.version, version.uri, str(version.id)),
        )
        links = daemon().client.lineage(step.outputs["trained_model"], direction="downstream").links
        self.assertIn("evaluator", [link.step for link in links])

    def test_branches_run_at_once(self):
        (run,) = self.runs("branches", "orchd")
        self.assertLess(self.output(run, "join"), 1.9)
        (run,) = self.runs("branches", "default")
        self.assertGreater(self.output(run, "join"), 1.9)

    def test_the_cache_is_zenmls(self):
        for first, second in self.each("caching"):
            self.assertEqual(first.status, ExecutionStatus.COMPLETED)
            self.assertEqual(self.steps_of(second), {"expensive": "cached", "more": "cached"})
            self.assertEqual(self.output(second, "more"), 50)

    def test_retries(self):
        for (run,) in self.all_completed("retries"):
            self.assertEqual(self.output(run, "flaky"), 3)
            self.assertEqual(run.steps["flaky"].version, 3)

    def test_execution_modes(self):
        for runs in self.each("modes"):
            steps = {run.config.execution_mode.value: self.steps_of(run) for run in runs}
            self.assertEqual({run.status.value for run in runs}, {"failed"})
            self.assertEqual(steps["continue_on_failure"], {"bad": "failed", "slow": "completed", "after_slow": "completed"})
        # On `local` nothing runs beside what fails.
        steps = {run.config.execution_mode.value: self.steps_of(run) for run in self.runs("modes", "orchd")}
        self.assertEqual(steps["stop_on_failure"], {"bad": "failed", "slow": "completed"})
        self.assertEqual(steps["fail_fast"], {"bad": "failed", "slow": "stopped"})

    def test_hooks(self):
        for (run,) in self.each("hooks"):
            self.assertEqual(run.steps["good"].run_metadata["told_success"], "good")
            self.assertEqual(run.steps["bad"].run_metadata["told_failure"], "bad: hooked")

    def test_resources(self):
        self.all_completed("resources")
        (run,) = self.runs("resources", "orchd")
        planned = {step.name: step for step in run_spec(run.name).steps}
        self.assertEqual((planned["small"].resources.cpu, planned["small"].resources.memory), (1.0, 256_000_000))
        self.assertEqual(planned["plain"].resources.cpu, 0.5)

    def test_environment_and_secrets(self):
        for (run,) in self.all_completed("surroundings"):
            wanted = {"COLOUR": "green", "PRICE": "5$ or $MORE", "SHAPE": "round", "password": "open-sesame-42"}
            self.assertEqual(self.output(run, "look"), wanted)
            self.assertEqual(self.output(run, "other"), "none")

    def test_metadata_and_tags(self):
        for (run,) in self.all_completed("metadata"):
            self.assertEqual(run.steps["measure"].run_metadata["epochs"], 3)
            version = run.steps["measure"].outputs["accuracy_of_it"][0]
            self.assertEqual(version.run_metadata["accuracy"], 0.5)
            self.assertIn("measured", [tag.name for tag in version.tags])
            self.assertIn("tagged", [tag.name for tag in run.tags])

    def test_configuration_by_a_file(self):
        for (run,) in self.all_completed("configured"):
            self.assertEqual(self.output(run, "scale"), 42)

    def test_a_materializer_of_ones_own(self):
        for (run,) in self.all_completed("materialized"):
            self.assertEqual(self.output(run, "norm"), 5.0)

    def test_a_loop_makes_steps(self):
        for (run,) in self.all_completed("fan"):
            self.assertEqual(self.output(run, "gather"), 0 + 1 + 4 + 9)
            self.assertEqual(len(run.steps), 5)

    def test_order_without_data(self):
        for (run,) in self.all_completed("ordered"):
            began = [run.steps[name].start_time for name in ("prepare", "second", "last")]
            self.assertEqual(began, sorted(began))

    def test_models(self):
        for (run,) in self.all_completed("models"):
            self.assertEqual(run.model_version.model.name, "forty_two")
            self.assertEqual(run.model_version.get_artifact("weights").load(), 42)

    def test_what_is_set_up_and_taken_down(self):
        for (run,) in self.all_completed("lifecycle"):
            self.assertTrue(self.output(run, "use").startswith(run.name))

    def test_artifacts_by_name(self):
        for keeping, taking in self.all_completed("artifacts", 2):
            self.assertEqual(self.output(keeping, "read"), 3)
            self.assertEqual(self.output(taking, "take"), 4)

    def test_dynamic_pipelines(self):
        for (run,) in self.all_completed("dynamic"):
            self.assertEqual(self.output(run, "total"), 0 + 1 + 4)
        (run,) = self.runs("dynamic", "orchd")
        apart = daemon().client.list_runs(f"label.zenml.of={run.id}")
        self.assertEqual([one.state for one in apart], ["SUCCEEDED"])


def run_spec(name):
    """The pipeline of a run, as the daemon stores it."""
    run = daemon().client.get_run(name)
    request = daemon().client._request("GetPipelineRequest", name=run.pipeline, version=run.pipeline_version)
    return daemon().client._call("PipelineService.GetPipeline", request).pipeline


if __name__ == "__main__":
    unittest.main()
