"""An engine over TCP with TLS, in which both sides show who they are; in a network of its own."""
from __future__ import annotations

import shutil
import tempfile
import unittest
from pathlib import Path

from tests.lib.certificates import Authority
from tests.lib.daemon import Daemon, wait_for
from tests.lib.engine import Engine

ADDRESS = "tcp://127.0.0.1:2376"
ECHO = "name: p\nsteps:\n  - {name: a, command: [sh, -c, 'echo out; echo x > $ORCH_OUTPUT_X; exit 0'], outputs: {x: {}}}\n"


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="orchd-tls-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        authority, other = Authority(cls.folder / "authority"), Authority(cls.folder / "other", "other")
        certificate, key = authority.sign("engine", "DNS:localhost,IP:127.0.0.1")
        cls.good = cls.pair("good", authority, authority)
        cls.distrusting = cls.pair("distrusting", other, authority)  # does not know who signed the engine's
        cls.distrusted = cls.pair("distrusted", authority, other)  # the engine does not know who signed this
        cls.engine = Engine()
        cls.addClassCleanup(cls.engine.down)
        cls.engine.up("--tlsverify", "--tlscacert", authority.certificate, "--tlscert", certificate, "--tlskey", key, "-H", ADDRESS)

    @classmethod
    def pair(cls, name: str, trusted: Authority, signer: Authority) -> Path:
        """A folder as the `docker` command has it."""
        folder = cls.folder / name
        folder.mkdir()
        certificate, key = signer.sign(f"client-{name}")
        shutil.copy(trusted.certificate, folder / "ca.pem")
        shutil.copy(certificate, folder / "cert.pem")
        shutil.copy(key, folder / "key.pem")
        return folder

    def setUp(self) -> None:
        inside = ["nsenter", "-t", (self.engine.folder / "pid").read_text().strip(), "-n"]

        class Inside(Daemon):  # in the engine's network
            def command(self) -> list[str]:
                return [*inside, *super().command()]

        self.daemon = Inside("grace: 1s\n")
        self.addCleanup(self.daemon.close)

    def register(self, name: str, *config: object, code: int = 0) -> str:
        words = [w for c in ("image=orch-test", "network=none", "pull=never", *config) for w in ("--config", c)]
        return self.daemon.ctl("register-orchestrator", name, "--flavor", "local_docker", *words, code=code).stderr

    def ends_well(self, orchestrator: str) -> None:
        run = self.daemon.submit(ECHO, "--orchestrator", orchestrator)
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, "out\n")
        wait_for("the container to be gone", lambda: not self.engine.containers())

    def test_by_configuration(self) -> None:
        self.daemon.start()
        self.register("docker", f"host={ADDRESS}", f"certificates={self.good}")
        self.ends_well("docker")
        self.assertIn(f"answers at {ADDRESS}", self.daemon.ctl("check-orchestrator", "docker").stdout)
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: [sleep, '1000']}\n", "--orchestrator", "docker")
        wait_for("it to run", lambda: self.daemon.steps(run)["a"]["state"] == "RUNNING")
        self.daemon.restart()
        self.daemon.ctl("cancel-run", run)
        self.daemon.ctl("wait-run", run, code=5)

    def test_by_the_variables_of_the_docker_command(self) -> None:
        self.daemon.launch(DOCKER_HOST=ADDRESS, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(self.good))
        self.daemon.wait_serving()
        self.register("docker")
        self.ends_well("docker")
        self.daemon.stop()
        self.daemon.launch(DOCKER_HOST=ADDRESS, DOCKER_TLS="1", DOCKER_TLS_VERIFY="")
        self.daemon.wait_serving()
        self.assertIn("an engine has to show who it is", self.register("other", code=8))

    def test_sides_that_do_not_trust_each_other(self) -> None:
        self.daemon.start()
        for name, words in (("distrusting", "certificate"), ("distrusted", "certificate")):
            with self.subTest(name):
                folder = self.folder / name
                self.register(name, f"host={ADDRESS}", f"certificates={folder}")
                checked = self.daemon.ctl("check-orchestrator", name, code=8).stdout
                self.assertIn(f"the Docker engine at {ADDRESS}: ", checked)
                self.assertIn(words, checked)
                run = self.daemon.submit(ECHO, "--orchestrator", name)
                wait_for("why to say so", lambda: "cannot be reached" in self.daemon.ctl("why", run, "a").stdout)
                self.daemon.ctl("cancel-run", run)
                self.daemon.ctl("wait-run", run, code=5)
        # The files are read anew by each connection.
        shutil.copy(self.good / "ca.pem", self.distrusting / "ca.pem")
        self.ends_well("distrusting")

    def test_without_tls_it_is_told_why(self) -> None:
        self.daemon.start()
        self.register("plain", f"host={ADDRESS}")
        self.assertIn("HTTP request to an HTTPS server", self.daemon.ctl("check-orchestrator", "plain", code=8).stdout)

    def test_what_is_wrong_with_the_files_is_refused(self) -> None:
        self.daemon.start()
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        said = self.register("x", f"host={ADDRESS}", f"certificates={empty}", code=8)
        for name in ("ca.pem", "cert.pem", "key.pem"):
            self.assertIn(f"`{empty}/{name}` cannot be read", said)
        self.assertIn("must be an absolute path", self.register("x", f"host={ADDRESS}", "certificates=here", code=8))
        self.assertIn("a socket has no TLS", self.register("x", f"host={self.engine.address}", f"certificates={self.good}", code=8))


if __name__ == "__main__":
    unittest.main()
