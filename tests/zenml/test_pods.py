"""Stock ZenML pipelines in the pods of a real Kubernetes, which sees ZenML's local stores as this machine does: on images that
ZenML builds and pushes to a registry, and on one that is there. Without a cluster all of it is skipped."""
import functools
import json
import os
import pathlib
import socket
import sys
import tempfile
import unittest

import world
from waiting import wait_for
from world import FOLDER, HERE, check_sums, daemon, python  # before ZenML

ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import image  # noqa: E402
from orchd.errors import Refused  # noqa: E402
import zenml  # noqa: E402
from zenml.client import Client  # noqa: E402
from zenml.config import DockerSettings  # noqa: E402
from zenml.enums import ExecutionStatus  # noqa: E402
from zenml.utils import source_utils  # noqa: E402
from zenml.utils.run_utils import stop_run  # noqa: E402

from tests.lib.certificates import Authority  # noqa: E402
from tests.lib.daemon import BIN  # noqa: E402
from tests.lib.engine import shared_engine  # noqa: E402
from tests.lib.kubernetes import IMAGE, Cluster  # noqa: E402
from tests.lib.registry import PASSWORD, USER, Registry  # noqa: E402

sys.path[:0] = [str(HERE / "faulty"), str(HERE / "pipelines")]
source_utils.set_custom_source_root(str(HERE))

from faulty import steps  # noqa: E402
from pipelines import first, surroundings  # noqa: E402
from test_zenml import play  # noqa: E402

# What this interpreter is made of: an image with it and ZenML would have it too.
_SYSTEM = {"/usr": "/usr", "/usr/lib": "/lib", "/usr/lib64": "/lib64", "/etc": "/etc"}
AS_IT_IS = {"docker": DockerSettings(parent_image=IMAGE, skip_build=True)}


@functools.lru_cache(maxsize=None)
def cluster():
    """One for all tests of this module, and a daemon that its pods reach."""
    made = Cluster(launcher=BIN / "orch-launch")
    unittest.addModuleCleanup(made.down)
    made.up()
    folder = tempfile.TemporaryDirectory(prefix="orchd-zenml-pods-")
    unittest.addModuleCleanup(folder.cleanup)
    authority = Authority(pathlib.Path(folder.name))
    with socket.create_server((made.here, 0)) as probe:
        address = f"{made.here}:{probe.getsockname()[1]}"
    certificate, key = authority.sign("daemon", f"IP:{made.here},IP:127.0.0.1")
    world.FLAGS.update({"tls-cert": str(certificate), "tls-key": str(key), "http-listen": address, "step-endpoint": f"https://{address}",
                        "step-ca": str(authority.certificate)})  # fmt: skip
    return made


def set_up(name, mounts, **config):
    """An orchestrator of the cluster, and a stack of ZenML for it; `mounts`: what its pods have of this machine, and whether
    only to read, by the path inside."""
    kubeconfig = str(cluster().kubeconfig)  # first: it says where the daemon is to be reached
    made = daemon().client._request("RegisterOrchestratorRequest")
    made.orchestrator.name, made.orchestrator.flavor = name, "kubernetes"
    made.orchestrator.config.update({
        "kubeconfig": kubeconfig, "launcher_image": IMAGE, "cpu_request_percent": 2, **config,
        "volumes": [{"name": f"m{n}", "hostPath": {"path": path}} for n, (path, _) in enumerate(mounts.values())],
        "volume_mounts": [{"name": f"m{n}", "mountPath": inside, "readOnly": only} for n, (inside, (_, only)) in enumerate(mounts.items())],
    })  # fmt: skip
    daemon().client._call("OrchestratorService.RegisterOrchestrator", made)
    python("-m", "orchd.zenml", "setup", "--name", name, "--stack", name, "--orchestrator", name, "--no-activate")


STORES = {str(FOLDER / "config"): (str(FOLDER / "config"), False)}


def until_clean():
    def ours():
        return [o for kind in ("jobs", "pods", "secrets") for o in cluster().list(kind) if "orchd.io/step" in o["metadata"].get("labels", {})]

    wait_for("the namespace to be clean", lambda: not ours())


class Stock(unittest.TestCase):
    """The same files, unchanged; only the active stack is another. In pods each is in an image that ZenML has built and pushed to
    the registry of the stack, which wants a password, and that the cluster has pulled from there."""

    @classmethod
    def setUpClass(cls):
        engine = shared_engine()
        cls.registry = Registry(engine, cluster())
        cls.addClassCleanup(cls.registry.down)
        cls.registry.up()
        os.environ["DOCKER_HOST"] = engine.address
        image.make(engine, f"zenmldocker/zenml:{zenml.__version__}-py{sys.version_info[0]}.{sys.version_info[1]}")
        known = {"auths": {cls.registry.host: {"username": USER, "password": PASSWORD}}}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "metadata": {"name": "registry"},
                  "stringData": {".dockerconfigjson": json.dumps(known)}}  # fmt: skip
        objects = FOLDER / "registry.json"
        objects.write_text(json.dumps(secret))
        cluster().kubectl("-n", "orchd", "apply", "-f", str(objects))
        set_up("built", STORES, image_pull_secrets=["registry"])
        Client().create_secret("registry", values={"username": USER, "password": PASSWORD})
        python(pathlib.Path(sys.prefix, "bin/zenml"), "container-registry", "register", "ours", "--flavor=default", f"--uri={cls.registry.host}", "--authentication_secret=registry")
        python(pathlib.Path(sys.prefix, "bin/zenml"), "image-builder", "register", "ours", "--flavor=local")
        python(pathlib.Path(sys.prefix, "bin/zenml"), "stack", "update", "built", "-c", "ours", "-i", "ours")
        cls.played = {stack: play(stack, "first", "surroundings") for stack in ("orchd", "built")}

    def each(self, name):
        for stack, played in self.played.items():
            (run,) = played[name]["runs"]
            with self.subTest(stack=stack):
                found = Client().get_pipeline_run(run)
                self.assertEqual(found.status, ExecutionStatus.COMPLETED)
                yield stack, found

    def test_data_is_passed_and_the_artifacts_are_equal(self):
        for stack, run in self.each("first"):
            check_sums(self, run)
            known = daemon().client.get_run(run.orchestrator_run_id)
            self.assertEqual({step.orchestrator for step in daemon().client.list_steps(known)}, {"built" if stack == "built" else "local"})

    def test_the_image_is_the_registrys(self):
        for stack, run in self.each("first"):
            known = daemon().client.get_run(run.orchestrator_run_id)
            asked = daemon().client._request("GetPipelineRequest", name=known.pipeline, version=known.pipeline_version)
            steps = daemon().client._call("PipelineService.GetPipeline", asked).pipeline.steps
            for step in steps:
                self.assertRegex(step.image.reference, f"^{self.registry.host}/zenml@sha256:" if stack == "built" else "^$")

    def test_environment_and_secrets(self):
        for _, run in self.each("surroundings"):
            wanted = {"COLOUR": "green", "PRICE": "5$ or $MORE", "SHAPE": "round", "password": "open-sesame-42"}
            self.assertEqual(run.steps["look"].outputs["output"][0].load(), wanted)
            self.assertEqual(run.steps["other"].outputs["output"][0].load(), "none")

    tearDown = staticmethod(until_clean)


class Pods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        shared = {inside: (path, True) for path, inside in _SYSTEM.items()} | {path: (path, True) for path in (sys.base_prefix, sys.prefix)}
        config = {"image": IMAGE, "pull": "never", "env": {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}}
        set_up("pods", {**shared, **STORES}, **config)
        set_up("blind", shared, **config)

    def setUp(self):
        Client().activate_stack("pods")
        self.addCleanup(Client().activate_stack, "orchd")

    def run_of(self, pipeline, *args, **kwargs):
        made = pipeline.with_options(settings=AS_IT_IS)(*args, **kwargs)
        return Client().get_pipeline_run(made.id)

    def known(self, run):
        """As orchd has it."""
        return daemon().client.get_run(run.orchestrator_run_id)

    def test_data_is_passed(self):
        run = self.run_of(first.sums)
        self.assertEqual(run.status, ExecutionStatus.COMPLETED)
        check_sums(self, run)

    def test_environment_and_secrets(self):
        Client().create_secret("surroundings_secret", values={"password": "open-sesame-42"})
        run = self.run_of(surroundings.surroundings)
        wanted = {"COLOUR": "green", "PRICE": "5$ or $MORE", "SHAPE": "round", "password": "open-sesame-42"}
        self.assertEqual(run.steps["look"].outputs["output"][0].load(), wanted)
        self.assertEqual(run.steps["other"].outputs["output"][0].load(), "none")

    def test_a_step_that_is_lost_is_started_again_within_its_retries(self):
        mark = FOLDER / "config/mark"
        run = self.run_of(steps.dies_once, "exit", str(mark))
        self.assertEqual(run.status, ExecutionStatus.COMPLETED)
        step = run.steps["dying_once"]
        self.assertEqual((step.version, step.outputs["output"][0].load()), (2, 7))
        (known,) = [one for one in daemon().client.list_steps(self.known(run)) if one.name == "dying_once"]
        self.assertEqual(known.attempt, 2)

    def test_stopped_by_zenml(self):
        mark = FOLDER / "config/begun"
        later = {**AS_IT_IS, "orchestrator": {"synchronous": False}}
        made = steps.waits.with_options(settings=later)(mark=str(mark))
        wait_for("the step to begin", mark.exists)
        stop_run(Client().get_pipeline_run(made.id), graceful=False)
        wait_for("ZenML to know", lambda: Client().get_pipeline_run(made.id).status == ExecutionStatus.STOPPED)
        known = daemon().client.wait(Client().get_pipeline_run(made.id).orchestrator_run_id, timeout=300)
        self.assertEqual(known.state, "CANCELLED")

    def test_stores_that_pods_do_not_see(self):
        Client().activate_stack("blind")
        with self.assertRaisesRegex(Refused, "mount that folder at the same path") as raised:
            first.sums.with_options(settings=AS_IT_IS)()
        self.assertEqual(raised.exception.reason, "ZENML_STORE_LOCAL")

    tearDown = staticmethod(until_clean)


if __name__ == "__main__":
    unittest.main()
