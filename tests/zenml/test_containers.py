"""Steps in containers of a real Docker engine: images that ZenML builds, stock files that run unchanged on `local` and
`local_docker`, steps that die or are stopped there. Without an engine all of it is skipped."""
import io
import os
import sys
import unittest
import zipfile

from waiting import wait_for
from world import FOLDER, HERE, check_sums, daemon, python  # before ZenML

sys.path.insert(0, str(HERE.parents[1]))

import image  # noqa: E402
from orchd.errors import Refused  # noqa: E402
from orchd.zenml import containers  # noqa: E402
import zenml  # noqa: E402
from zenml.client import Client  # noqa: E402
from zenml.config import DockerSettings  # noqa: E402
from zenml.enums import ExecutionStatus  # noqa: E402
from zenml.utils import source_utils  # noqa: E402
from zenml.utils.run_utils import stop_run  # noqa: E402

import test_server  # noqa: E402
from test_zenml import play  # noqa: E402
from tests.lib.engine import shared_engine  # noqa: E402

sys.path.insert(0, str(HERE / "faulty"))
source_utils.set_custom_source_root(str(HERE / "faulty"))

import steps  # noqa: E402

STACKS = ("orchd", "boxes")
# What ZenML builds from if it is told nothing.
PARENT = f"zenmldocker/zenml:{zenml.__version__}-py{sys.version_info[0]}.{sys.version_info[1]}"


def wheel():
    """A package that is nowhere else."""
    name, into = "orchd_test_colour-1.0", io.BytesIO()
    record = f"{name}.dist-info"
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr("orchd_test_colour.py", "COLOUR = 'green'\n")
        archive.writestr(f"{record}/METADATA", "Metadata-Version: 2.1\nName: orchd-test-colour\nVersion: 1.0\n")
        archive.writestr(f"{record}/WHEEL", "Wheel-Version: 1.0\nGenerator: a-test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{record}/RECORD", "")
    return {f"/wheels/{name}-py3-none-any.whl": into.getvalue()}


def stack_of_containers():
    """The stack `boxes`, on an engine of the test's own."""
    engine = shared_engine()
    os.environ["DOCKER_HOST"] = engine.address
    if not getattr(engine, "has_zenml", False):
        image.make(engine, PARENT, wheel())
        made = daemon().client._request("RegisterOrchestratorRequest")
        made.orchestrator.name, made.orchestrator.flavor = "boxes", "local_docker"
        made.orchestrator.config.update({"host": engine.address, "network": "none", "pull": "never"})
        daemon().client._call("OrchestratorService.RegisterOrchestrator", made)
        python("-m", "orchd.zenml", "setup", "--name", "boxes", "--stack", "boxes", "--orchestrator", "boxes", "--no-activate")
        engine.has_zenml = True
    return engine


class Stock(unittest.TestCase):
    """The same files, unchanged; only the active stack is another."""

    @classmethod
    def setUpClass(cls):
        stack_of_containers()
        cls.played = {stack: play(stack, "first", "surroundings") for stack in STACKS}

    def each(self, name):
        for stack in STACKS:
            (run,) = self.played[stack][name]["runs"]
            with self.subTest(stack=stack):
                found = Client().get_pipeline_run(run)
                self.assertEqual(found.status, ExecutionStatus.COMPLETED)
                yield stack, found, daemon().client.get_run(found.orchestrator_run_id)

    def test_data_is_passed_and_the_artifacts_are_equal(self):
        for stack, run, _ in self.each("first"):
            check_sums(self, run)
            self.assertEqual(run.build is not None, stack == "boxes")

    def test_environment_and_secrets(self):
        for _, run, _ in self.each("surroundings"):
            wanted = {"COLOUR": "green", "PRICE": "5$ or $MORE", "SHAPE": "round", "password": "open-sesame-42"}
            self.assertEqual(run.steps["look"].outputs["output"][0].load(), wanted)
            self.assertEqual(run.steps["other"].outputs["output"][0].load(), "none")


class World(unittest.TestCase):
    def setUp(self):
        stack_of_containers()
        Client().activate_stack("boxes")
        self.addCleanup(Client().activate_stack, "orchd")
        # What a step and its test share: the one folder of this machine that the container has.
        self.folder = FOLDER / "config/local_stores" / self.id().rpartition(".")[2]
        self.folder.mkdir(parents=True)

    def run_of(self, made):
        return Client().get_pipeline_run(made.id)


class Images(World):
    def looked(self, **settings):
        run = self.run_of(steps.looks.with_options(settings={"docker": DockerSettings(**settings)})(str(HERE)))
        self.assertEqual(run.status, ExecutionStatus.COMPLETED)
        return run, run.steps["look_around"].outputs["output"][0].load()

    def test_an_image_as_it_is_and_code_from_the_artifact_store(self):
        run, found = self.looked(parent_image=PARENT, skip_build=True)
        self.assertEqual((found["cwd"], found["colour"], found["shade"]), ("/app/code", "", ""))
        self.assertIsNotNone(run.snapshot.code_path)
        step = daemon().client.get_step(run.name, "look_around")
        self.assertRegex(str(step.command), "zenml.entrypoints.entrypoint")
        self.assertFalse(found["sees_tests"], "of this machine it has ZenML's stores and orchd's package alone")

    def test_an_image_with_code_requirements_and_environment(self):
        run, found = self.looked(
            parent_image=PARENT, requirements=["orchd-test-colour"], environment={"SHADE": "dark"},
            python_package_installer="pip", python_package_installer_args={"find-links": "/wheels"},
            allow_download_from_artifact_store=False, allow_download_from_code_repository=False,
        )  # fmt: skip
        self.assertEqual((found["cwd"], found["colour"], found["shade"]), ("/app", "green", "dark"))
        self.assertIsNone(run.snapshot.code_path)


class Faults(World):
    LATER = {"settings": {"orchestrator": {"synchronous": False}, "docker": DockerSettings(parent_image=PARENT, skip_build=True)}}

    def begun(self):
        mark = self.folder / "mark"
        made = steps.waits.with_options(**self.LATER)(mark=str(mark))
        wait_for("the step to begin", lambda: mark.exists() and mark.read_text())
        return made

    def stopped(self, made):
        wait_for("ZenML to say stopped", lambda: self.run_of(made).status == ExecutionStatus.STOPPED)
        run = self.run_of(made)
        self.assertEqual({name: step.status.value for name, step in run.steps.items()}, {"waiting": "stopped"})
        self.assertEqual(daemon().client.wait(run.orchestrator_run_id).state, "CANCELLED")

    def test_stopped_by_zenml(self):
        made = self.begun()
        stop_run(self.run_of(made), graceful=True)
        self.stopped(made)

    def test_stopped_by_orchd(self):
        made = self.begun()
        daemon().client.cancel_run(made.name)
        self.stopped(made)

    def test_a_step_that_is_lost_is_failed_and_says_how(self):
        made = steps.dies.with_options(**self.LATER)("kill")
        wait_for("ZenML to know", lambda: self.run_of(made).status == ExecutionStatus.FAILED)
        wait_for("the other", lambda: self.run_of(made).steps["beside"].status.is_finished)
        told = self.run_of(made).steps["dying"]
        self.assertEqual(told.status, ExecutionStatus.FAILED)
        self.assertIn("SIGKILL", told.exception_info.traceback)

    def test_a_lost_step_is_started_again_within_its_retries(self):
        made = steps.dies_once.with_options(**self.LATER)("exit", str(self.folder / "mark"))
        wait_for("its end", lambda: self.run_of(made).status.is_finished)
        run = self.run_of(made)
        self.assertEqual((run.status, run.steps["dying_once"].version), (ExecutionStatus.COMPLETED, 2))

    def test_an_image_that_is_nowhere(self):
        settings = {**self.LATER["settings"], "docker": DockerSettings(parent_image="there-is-no-such:image", skip_build=True)}
        made = steps.dies_always.with_options(settings=settings)()
        wait_for("ZenML to know", lambda: self.run_of(made).status == ExecutionStatus.FAILED)
        self.assertRegex(daemon().client.list_steps(made.name)[0].message, "there-is-no-such")

    def test_who_waits_is_told_what_no_log_says(self):
        settings = {"docker": DockerSettings(parent_image="there-is-no-such:image", skip_build=True)}
        with self.assertRaisesRegex(RuntimeError, r"step\(s\): dying_always\n  dying_always: IMAGE_PULL_FAILED: .*there-is-no-such"):
            steps.dies_always.with_options(settings=settings)()

    def test_one_step_of_a_run_in_a_container(self):
        Client().activate_stack("orchd")
        made = steps.mixed.with_options(settings={"docker": self.LATER["settings"]["docker"]})()
        run = self.run_of(made)
        self.assertEqual(run.status, ExecutionStatus.COMPLETED)
        self.assertEqual(run.steps["is_boxed"].outputs["output"][0].load(), False)
        self.assertEqual(run.steps["inside"].outputs["output"][0].load(), True)

    def test_a_server_on_loopback(self):
        box = containers.Box("boxes", "local_docker", {"network": "bridge"})
        url = {"ZENML_STORE_URL": "http://127.0.0.1:8237"}
        with self.assertRaisesRegex(Refused, "`load` would run in a container, where ZenML's server at http://127.0.0.1:8237 is not"):
            containers._check_server("load", box, {}, url)
        containers._check_server("load", box, {"local_docker": {"network": "host"}}, url)
        containers._check_server("load", box, {}, {"ZENML_STORE_URL": "http://zenml.example.org"})

    def test_a_function_of_a_dynamic_pipeline(self):
        made = steps.counts.with_options(**self.LATER)()
        wait_for("its end", lambda: self.run_of(made).status.is_finished)
        run = self.run_of(made)
        self.assertEqual((run.status, run.steps["total_of"].outputs["output"][0].load()), (ExecutionStatus.COMPLETED, 5))


class Server(test_server.Server):
    """A ZenML server with sign-in, in the engine's network, as are the client and the containers."""

    test_a_run_that_was_cancelled_keeps_no_token = test_a_submission_that_fails_leaves_no_token = None
    test_the_server_is_restarted_in_the_middle = None

    @classmethod
    def setUpClass(cls):
        engine = stack_of_containers()
        cls.enter = ["nsenter", f"--net=/proc/{(engine.folder / 'pid').read_text().strip()}/ns/net"]
        super().setUpClass()
        made = cls.daemon.client._request("RegisterOrchestratorRequest")
        made.orchestrator.name, made.orchestrator.flavor = "boxes", "local_docker"
        config = {"host": engine.address, "network": "host", "pull": "never", "mounts": [f"{cls.folder}:{cls.folder}"]}
        made.orchestrator.config.update(config)
        cls.daemon.client._call("OrchestratorService.RegisterOrchestrator", made)
        cls.environment.update(ON="boxes", DOCKER_HOST=engine.address)

    def test_the_token_is_nowhere(self):
        super().test_the_token_is_nowhere()
        (run,) = self.daemon.client.list_runs()
        request = self.daemon.client._request("GetPipelineRequest", name=run.pipeline, version=run.pipeline_version)
        (step,) = self.daemon.client._call("PipelineService.GetPipeline", request).pipeline.steps
        self.assertRegex(step.image.reference, "^sha256:")


if __name__ == "__main__":
    unittest.main()
