"""orchctl build-image and `image: {build: …}` on a real engine: built once, what is in it, pushed, and what goes wrong."""
import base64
import json
import subprocess
import unittest
from pathlib import Path

from tests.lib.daemon import Daemon
from tests.lib.engine import Engine, shared_engine
from tests.lib.registry import PASSWORD, USER, Registry

# There is no network: what installs says what it was told to install, and leaves it in a file of the image.
INSTALLER = "#!/bin/sh\necho \"$(basename $0) $*\" >> /installed\nwhile [ $# -gt 0 ]; do [ \"$1\" = -r ] && cat \"$2\" >> /installed; shift; done; true\n"


class Build(unittest.TestCase):
    engine: Engine

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = shared_engine()
        root = cls.engine.folder / "rootfs"
        for name in ("apt-get", "pip"):
            (root / "bin" / name).write_text(INSTALLER)
            (root / "bin" / name).chmod(0o755)
        archive = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
        status, said = cls.engine.call("POST", "/images/create?fromSrc=-&repo=orch-base&tag=1&changes=ENV%20PATH=/bin", archive)
        assert status == 200, said

    def setUp(self) -> None:
        self.daemon = Daemon("grace: 1s\n")
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.daemon.ctl("register-orchestrator", "docker", "--flavor", "local_docker", "--config", f"host={self.engine.address}",
                        "--config", "network=none", "--config", "image=orch-base:1")
        self.source = self.daemon.home / "source"
        self.source.mkdir()
        (self.daemon.home / "run").mkdir()

    def build(self, *args: object, code: int = 0, base: str = "orch-base:1") -> dict:
        done = self.daemon.ctl("build-image", "--base", base, "--host", self.engine.address, *args, "-o", "json", code=code)
        self.said = done.stderr
        return json.loads(done.stdout) if code == 0 else {}

    def run_in(self, image: str, script: str) -> str:
        run = self.daemon.submit(json.dumps({"name": "p", "steps": [{"name": "a", "command": ["sh", "-c", script], "image": image}]}),
                                 "--orchestrator", "docker", name="run/run.json")
        self.daemon.ctl("wait-run", run, "--timeout", "120s")
        return self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout

    def test_what_is_in_it_and_that_it_is_built_once(self) -> None:
        (self.source / "tool.py").write_text("print(1)\n")
        (self.source / "big.log").write_text("no")
        (self.source / ".orchignore").write_text("*.log\n.orchignore\n")
        requirements = self.daemon.file("# words\nscipy==1\n", "requirements.txt")
        args = ("--apt", "git", "--requirement", "numpy==2.1.0", "--requirements-file", requirements, "--env", "WORD=a $b \"c\"", "--source", self.source)
        first = self.build(*args)
        self.assertTrue(first["built"])
        self.assertRegex(first["image"], r"^sha256:[0-9a-f]{64}$")
        self.assertIn("Step 1/", self.said, "its progress is shown")
        self.assertEqual(self.run_in(first["image"], "cat /installed; ls /orch/source; echo \"$WORD\"; /.orch/bin/orch-launch --version >/dev/null && echo launcher"),
                         "apt-get update\napt-get install -y --no-install-recommends git\npip install --no-cache-dir -r /.orch/requirements.txt\n"
                         "numpy==2.1.0\nscipy==1\ntool.py\na $b \"c\"\nlauncher\n")
        again = self.build(*args)
        self.assertEqual((again["built"], again["image"], again["tag"]), (False, first["image"], first["tag"]))
        (self.source / "big.log").write_text("still no")
        self.assertFalse(self.build(*args)["built"], "what is left out does not count")
        (self.source / "tool.py").write_text("print(2)\n")
        self.build(*args, "--skip-build", code=3)
        self.assertIn("it may not be built", self.said)
        other = self.build(*args)
        self.assertTrue(other["built"])
        self.assertNotEqual(other["image"], first["image"])
        self.assertFalse(self.build(*args, "--skip-build")["built"])

    def test_images_of_steps(self) -> None:
        # covers: Image.build Image.Build.base Image.Build.apt_packages Image.Build.requirements
        # covers: Image.Build.requirements_file Image.Build.env Image.Build.platform Image.Build.registry
        (self.source / "r.txt").write_text("scipy\n")
        build = {"base": "orch-base:1", "apt_packages": ["git"], "requirements": ["numpy"], "requirements_file": "r.txt", "env": {"A": "b"}}
        pipeline = {"name": "p", "defaults": {"cache": {"enabled": True}},
                    "steps": [{"name": n, "command": ["sh", "-c", f"cat /installed; echo $A {n}"], "image": {"build": build}} for n in "ab"]}
        file = self.daemon.file(json.dumps(pipeline), "source/p.json")

        def submit(*args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
            return self.daemon.ctl("submit", file, "--orchestrator", "docker", "--build-host", self.engine.address, *args, code=code)

        done = submit("--wait")
        self.assertEqual(done.stderr.count("is built"), 1, "one for both")
        run = done.stdout.splitlines()[0]
        self.assertEqual(self.daemon.ctl("logs", run, "b", "--stream", "stdout").stdout,
                         "apt-get update\napt-get install -y --no-install-recommends git\npip install --no-cache-dir -r /.orch/requirements.txt\nnumpy\nscipy\nb b\n")
        # The image's id is in the definition and so in the cache's key.
        again = submit("--wait", "--skip-build")
        self.assertIn("was there", again.stderr)
        self.assertEqual({s["state"] for s in self.daemon.steps(again.stdout.splitlines()[0]).values()}, {"CACHED"})
        build["env"] = {"A": "c"}
        file.write_text(json.dumps(pipeline))
        self.assertIn("it may not be built", submit("--skip-build", code=3).stderr)
        changed = submit("--wait").stdout.splitlines()[0]
        self.assertEqual(self.daemon.steps(changed)["a"]["state"], "SUCCEEDED")
        # A daemon alone does not build: the words say who does.
        build["platform"], build["registry"] = "linux/amd64", "example.org/team"
        file.write_text(json.dumps(pipeline))
        self.assertIn("orchctl build-image", self.daemon.ctl("validate", file, code=8).stderr)

    def test_pushed_and_used_by_its_digest(self) -> None:
        registry = Registry(self.engine)
        self.addCleanup(registry.down)
        registry.up()
        login = self.daemon.home / "docker"
        login.mkdir()
        (login / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}}))
        refused = self.daemon.ctl("build-image", "--base", "orch-base:1", "--host", self.engine.address, "--registry", f"{registry.host}/team",
                                  code=None, DOCKER_CONFIG="/nonexistent")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("was not pushed", refused.stderr)
        done = self.daemon.ctl("build-image", "--base", "orch-base:1", "--host", self.engine.address, "--registry", f"{registry.host}/team",
                               "-o", "json", DOCKER_CONFIG=str(login))
        made = json.loads(done.stdout)
        self.assertRegex(made["image"], rf"^{registry.host}/team/orch-build@sha256:[0-9a-f]{{64}}$")
        registry.forget(made["tag"])
        self.daemon.ctl("set-secret", "registry", stdin=PASSWORD)
        config = self.daemon.file(json.dumps({"host": self.engine.address, "network": "none", "registries": {registry.host: {"username": USER, "secret": "registry"}}}), "c.json")
        self.daemon.ctl("register-orchestrator", "puller", "--flavor", "local_docker", "--config-file", config)
        run = self.daemon.submit(json.dumps({"name": "p", "steps": [{"name": "a", "command": ["echo", "here"], "image": made["image"]}]}),
                                 "--orchestrator", "puller", name="run/q.json")
        self.daemon.ctl("wait-run", run, "--timeout", "120s")
        # What names no registry goes to the stack's.
        self.daemon.ctl("register-stack", "pushing", "--orchestrator", "puller", "--image-registry", f"{registry.host}/stack")
        file = self.daemon.file(json.dumps({"name": "r", "steps": [{"name": "a", "command": ["true"], "image": {"build": {"base": "orch-base:1"}}}]}), "run/r.json")
        said = self.daemon.ctl("submit", file, "--stack", "pushing", "--build-host", self.engine.address, "--wait", DOCKER_CONFIG=str(login)).stderr
        self.assertRegex(said, rf"step a: {registry.host}/stack/orch-build:\S+ is built")
        for text in (done.stderr, done.stdout, refused.stderr):
            self.assertNotIn(PASSWORD, text)

    def test_what_goes_wrong(self) -> None:
        done = self.daemon.ctl("build-image", "--base", "no-such-base:1", "--host", self.engine.address, code=None)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("the base `no-such-base:1` cannot be pulled", done.stderr)
        broken = self.engine.folder / "rootfs/bin/pip"
        kept = broken.read_text()
        self.addCleanup(broken.write_text, kept)
        broken.write_text("#!/bin/sh\necho no such package >&2; exit 1\n")
        archive = subprocess.run(["tar", "-C", self.engine.folder / "rootfs", "-c", "."], capture_output=True, check=True).stdout
        self.assertEqual(self.engine.call("POST", "/images/create?fromSrc=-&repo=orch-broken&tag=1&changes=ENV%20PATH=/bin", archive)[0], 200)
        done = self.daemon.ctl("build-image", "--base", "orch-broken:1", "--requirement", "x", "--host", self.engine.address, code=None)
        self.assertIn("the image was not built", done.stderr)
        self.assertIn("no such package", done.stderr)
        self.assertIn("returned a non-zero code: 1", done.stderr)
        done = self.daemon.ctl("build-image", "--base", "x", "--host", "unix:///no/such.sock", code=7)
        self.assertIn("no Docker engine answers", done.stderr)
        done = self.daemon.ctl("build-image", "--apt", "-x", "--env", "9=1", code=None)
        for word in ("name the image to start from", "`-x` is no Debian package", "env.9"):
            self.assertIn(word, done.stderr)
        self.assertFalse([p for p in Path("/tmp").glob("orch-build*")], "nothing is left here")


if __name__ == "__main__":
    unittest.main()
