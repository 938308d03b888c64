"""Stock ZenML pipelines in the pods of a real Kubernetes, which sees ZenML's local stores as this machine does. Without one
all of it is skipped."""
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

from orchd.errors import Refused  # noqa: E402
from zenml.client import Client  # noqa: E402
from zenml.config import DockerSettings  # noqa: E402
from zenml.enums import ExecutionStatus  # noqa: E402
from zenml.utils import source_utils  # noqa: E402
from zenml.utils.run_utils import stop_run  # noqa: E402

from tests.lib.certificates import Authority  # noqa: E402
from tests.lib.daemon import BIN  # noqa: E402
from tests.lib.kubernetes import IMAGE, Cluster  # noqa: E402

sys.path[:0] = [str(HERE / "faulty"), str(HERE / "pipelines")]
source_utils.set_custom_source_root(str(HERE))

from faulty import steps  # noqa: E402
from pipelines import first, surroundings  # noqa: E402

# What this interpreter is made of: an image with it and ZenML would have it too.
_SYSTEM = {"/usr": "/usr", "/usr/lib": "/lib", "/usr/lib64": "/lib64", "/etc": "/etc"}
AS_IT_IS = {"docker": DockerSettings(parent_image=IMAGE, skip_build=True)}


class Pods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(launcher=BIN / "orch-launch")
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        folder = tempfile.TemporaryDirectory(prefix="orchd-zenml-pods-")
        cls.addClassCleanup(folder.cleanup)
        authority = Authority(pathlib.Path(folder.name))
        with socket.create_server((cls.cluster.here, 0)) as probe:
            address = f"{cls.cluster.here}:{probe.getsockname()[1]}"
        certificate, key = authority.sign("daemon", f"IP:{cls.cluster.here},IP:127.0.0.1")
        world.FLAGS.update({"tls-cert": str(certificate), "tls-key": str(key), "http-listen": address, "step-endpoint": f"https://{address}",
                            "step-ca": str(authority.certificate)})  # fmt: skip
        cls.register("pods", str(FOLDER / "config"))
        cls.register("blind")
        for name in ("pods", "blind"):
            python("-m", "orchd.zenml", "setup", "--name", name, "--stack", name, "--orchestrator", name, "--no-activate")

    @classmethod
    def register(cls, name, *folders):
        """An orchestrator whose pods see these folders too."""
        shared = {**_SYSTEM, **{path: path for path in (sys.base_prefix, sys.prefix)}}
        mounts = [(inside, path, True) for path, inside in shared.items()] + [(path, path, False) for path in folders]
        made = daemon().client._request("RegisterOrchestratorRequest")
        made.orchestrator.name, made.orchestrator.flavor = name, "kubernetes"
        made.orchestrator.config.update({
            "kubeconfig": str(cls.cluster.kubeconfig), "image": IMAGE, "launcher_image": IMAGE, "pull": "never", "cpu_request_percent": 2,
            "env": {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin"},
            "volumes": [{"name": f"m{n}", "hostPath": {"path": path}} for n, (_, path, _) in enumerate(mounts)],
            "volume_mounts": [{"name": f"m{n}", "mountPath": inside, "readOnly": only} for n, (inside, _, only) in enumerate(mounts)],
        })  # fmt: skip
        daemon().client._call("OrchestratorService.RegisterOrchestrator", made)

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

    def tearDown(self):
        def ours():
            return [o for kind in ("jobs", "pods", "secrets") for o in self.cluster.list(kind) if "orchd.io/step" in o["metadata"].get("labels", {})]

        wait_for("the namespace to be clean", lambda: not ours())


if __name__ == "__main__":
    unittest.main()
