"""Images on a real engine, from a real registry with a password: credentials, digests, policies, and what cannot be had."""
import io
import json
import os
import tarfile
import unittest
from pathlib import Path
from urllib.parse import quote

from tests.lib.daemon import Daemon, wait_for
from tests.lib.engine import Engine, shared_engine
from tests.lib.registry import PASSWORD, USER, Registry
from tests.support.fault_proxy import FaultProxy


class Images(unittest.TestCase):
    engine: Engine
    registry: Registry

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = shared_engine()
        cls.registry = Registry(cls.engine)
        cls.addClassCleanup(cls.registry.down)
        cls.registry.up()
        cls.image = cls.registry.push("orch-test", "team/app")

    def setUp(self) -> None:
        self.daemon = Daemon("grace: 1s\n")
        self.addCleanup(self.daemon.close)
        self.proxy = FaultProxy(self.daemon.home / "proxy.sock", self.engine.socket)
        self.addCleanup(self.proxy.close)
        self.daemon.start()
        self.addCleanup(self.registry.forget, f"{self.registry.host}/team/app:1")

    def register(self, name: str, **config: object) -> None:
        file = self.daemon.file(json.dumps({"host": f"unix://{self.proxy.listen}", "network": "none", "cpus": 8, **config}), "config.json")
        self.daemon.ctl("register-orchestrator", name, "--flavor", "local_docker", "--config-file", file)

    def run_image(self, image: str, orchestrator: str, code: int = 0, n: int = 1, **more: object) -> dict:
        step = {"name": "a", "command": ["sh", "-c", "echo ran"], "image": image, "foreach": {"i": list(range(n))},
                "retry": {"platform_attempts": 1}, **more}
        run = self.daemon.submit(json.dumps({"name": "p", "steps": [step]}), "--orchestrator", orchestrator)
        self.daemon.ctl("wait-run", run, "--timeout", "120s", code=code)
        return dict(self.daemon.steps(run)["a[0]"])

    def pulls(self) -> int:
        return self.proxy.asked("POST", "/images/create")

    def test_a_registry_with_a_password(self) -> None:
        self.daemon.ctl("set-secret", "registry", stdin=PASSWORD)
        who = {self.registry.host: {"username": USER, "secret": "registry"}}
        self.register("known", registries=who)
        self.register("unknown")
        tag = f"{self.registry.host}/team/app:1"
        refused = self.run_image(tag, "unknown", code=1)
        self.assertEqual(refused["reason"], "IMAGE_PULL_FAILED")
        self.assertIn("no basic auth credentials", refused["message"])
        self.run_image(tag, "known")
        self.registry.forget(tag)
        # By its digest; several steps that need it pull it once.
        before = self.pulls()
        self.run_image(self.image, "known", n=5)
        self.assertEqual(self.pulls() - before, 1)
        self.registry.forget(self.image)
        # A wrong password, and one that is not there.
        self.daemon.ctl("set-secret", "registry", stdin="wrong-password-93a1")
        wrong = self.run_image(tag, "known", code=1)
        self.assertEqual(wrong["reason"], "IMAGE_PULL_FAILED")
        self.assertRegex(wrong["message"], "unauthorized|authentication|no basic auth")
        self.daemon.ctl("delete-secret", "registry", "--force")
        gone = self.run_image(tag, "known", code=1)
        self.assertIn("registry", gone["message"])
        self.assertIn("secret", gone["message"])
        for text in (self.daemon.log(), self.daemon.ctl("list-orchestrators", "-o", "json").stdout, json.dumps(wrong)):
            self.assertNotIn(PASSWORD, text)
            self.assertNotIn("wrong-password-93a1", text)

    def test_when_images_are_pulled(self) -> None:
        self.daemon.ctl("set-secret", "registry", stdin=PASSWORD)
        who = {self.registry.host: {"username": USER, "secret": "registry"}}
        for policy in ("missing", "always", "never"):
            self.register(policy, registries=who, pull=policy)
        tag = f"{self.registry.host}/team/app:1"
        self.assertIn("No such image", self.run_image(tag, "never", code=1)["message"])
        self.assertEqual(self.pulls(), 0)
        self.run_image(tag, "missing")
        self.run_image(tag, "missing")
        self.assertEqual(self.pulls(), 1)
        self.run_image(tag, "always")
        self.assertEqual(self.pulls(), 2)
        self.run_image(tag, "never")

    def test_images_that_are_nowhere(self) -> None:
        self.daemon.ctl("set-secret", "registry", stdin=PASSWORD)
        self.register("known", registries={self.registry.host: {"username": USER, "secret": "registry"}})
        for image in (f"{self.registry.host}/team/nothing:1", f"{self.registry.host}/team/app@sha256:{'0' * 64}"):
            step = self.run_image(image, "known", code=1)
            self.assertEqual(step["reason"], "IMAGE_PULL_FAILED")
            self.assertRegex(step["message"], "not found|manifest unknown")

    def test_an_image_of_another_machine(self) -> None:
        """Its programs are of another architecture: the engine starts it, and nothing in it can be executed."""
        program = bytearray(Path("/bin/busybox").read_bytes())
        program[18:20] = (183 if os.uname().machine == "x86_64" else 62).to_bytes(2, "little")  # e_machine
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo("bin/sh")
            entry.size, entry.mode = len(program), 0o755
            tar.addfile(entry, io.BytesIO(bytes(program)))
        status, said = self.engine.call("POST", f"/images/create?fromSrc=-&repo=orch-other&tag=1&changes={quote('ENV PATH=/bin')}", archive.getvalue())
        self.assertEqual(status, 200, said)
        self.register("plain")
        step = self.run_image("orch-other:1", "plain", code=1)
        self.assertEqual(step["reason"], "COMMAND_NOT_FOUND")
        self.assertIn("Exec format error", step["message"])

    def test_a_pull_is_cancelled(self) -> None:
        from tests.support.fault_proxy import Hang
        self.register("plain")
        self.proxy.add("POST", "/images/create", Hang())
        run = self.daemon.submit(json.dumps({"name": "p", "steps": [{"name": "a", "command": ["true"], "image": "no-such:1"}]}), "--orchestrator", "plain")
        wait_for("the pull", lambda: self.pulls())
        self.daemon.ctl("cancel-run", run)
        self.daemon.ctl("wait-run", run, "--timeout", "60s", code=5)


if __name__ == "__main__":
    unittest.main()
