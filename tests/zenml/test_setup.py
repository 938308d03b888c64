"""Registering the flavor, and the example as its user runs it."""
import os
import re
import subprocess
import sys
import unittest

from world import FOLDER, HERE, daemon, python

from zenml.client import Client
from zenml.enums import StackComponentType

SOURCE = "orchd.zenml.OrchdOrchestratorFlavor"


class Setup(unittest.TestCase):
    def setUp(self):
        daemon()

    def zenml(self, *words):
        done = python("-c", "from zenml.cli.cli import cli; cli()", *words, cwd=FOLDER, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_again_it_changes_nothing(self):
        before = Client().get_stack("orchd")
        told = python("-m", "orchd.zenml", "setup", cwd=FOLDER).stdout
        self.assertIn("the stack `orchd` runs on orchd", told)
        after = Client().get_stack("orchd")
        self.assertEqual(before.id, after.id)
        flavors = Client().list_flavors(name="orchd", type=StackComponentType.ORCHESTRATOR).items
        self.assertEqual([flavor.source for flavor in flavors], [SOURCE])
        self.assertEqual(Client().active_stack_model.name, "orchd")

    def test_with_zenmls_own_commands(self):
        self.assertIn("orchd", self.zenml("orchestrator", "flavor", "list"))
        self.zenml("orchestrator", "register", "by_hand", "--flavor=orchd", "--worker_idle_seconds=60")
        found = Client().get_stack_component(StackComponentType.ORCHESTRATOR, "by_hand")
        self.assertEqual(found.configuration["worker_idle_seconds"], 60)

    def test_all_of_it_by_hand(self):
        """In a configuration of its own, as docs/zenml.md has it."""
        (config := FOLDER / "by hand").mkdir()
        said = ("orchestrator flavor register orchd.zenml.OrchdOrchestratorFlavor", "orchestrator register X --flavor=orchd",
                "stack register S -o X -a default --set")  # fmt: skip
        for words in said:
            self.assertIn(f"`zenml {words}`", (HERE.parents[1] / "docs/zenml.md").read_text())
        program = (
            f"from zenml.cli.cli import cli\nfor words in {said!r}:\n    cli(words.split(), standalone_mode=False)\n"
            "from zenml.client import Client\nfound = Client().active_stack_model\n"
            "print('active:', found.name, found.components['orchestrator'][0].flavor_name)\n"
        )
        told = python("-c", program, cwd=config, env={**os.environ, "ZENML_CONFIG_PATH": str(config)}).stdout
        self.assertIn("active: S orchd\n", told)

    def test_the_example(self):
        done = subprocess.run(
            [sys.executable, HERE.parents[1] / "examples/zenml/file_that_runs_a_zenml_pipeline.py"],
            text=True, capture_output=True, cwd=FOLDER, timeout=1200,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        name = re.search(r"^(fit_a_line-\S+) completed$", done.stdout, re.M).group(1)
        self.assertIn("largest error: 0.23", done.stdout)
        # Each client its own spelling of it.
        url = Client().get_pipeline_run(name).run_metadata["orchestrator_url"]
        self.assertIs(type(url), str)
        ours = daemon().client.get_pipeline_run(name).run_metadata["orchestrator_url"]
        self.assertEqual((ours.value, str(ours)), (url, url))
        self.assertIn(f"at {url}", done.stdout)

    def test_a_wrong_server(self):
        done = python("-m", "orchd.zenml", "setup", "--server", "http://127.0.0.1:9", "--name", "away", "--stack", "away",
                      check=False, cwd=FOLDER)
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("Traceback", done.stderr)
        self.assertIn("127.0.0.1:9", done.stderr)
        self.assertEqual(Client().list_stacks(name="away").items, [])


if __name__ == "__main__":
    unittest.main()
