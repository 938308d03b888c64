"""The daemon beyond loopback: TLS on both ports, certificates that change, and what clients say of bad ones."""
from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from tests.lib.certificates import Authority, flags, openssl
from tests.lib.daemon import BIN, ROOT, Daemon, wait_for


def port_of(daemon: Daemon, kind: str) -> int:
    return int(str(daemon.server[kind]).rsplit(":", 1)[1])


def shown(daemon: Daemon, kind: str, ca: Path) -> int:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"] if kind == "grpc" else ["http/1.1"])
    with socket.create_connection(("127.0.0.1", port_of(daemon, kind)), 20) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            certificate = sock.getpeercert()
            assert certificate
            return int(str(certificate["serialNumber"]), 16)


def serial(certificate: Path) -> int:
    return int(openssl("x509", "-noout", "-serial", "-in", certificate).strip().partition("=")[2], 16)


class Certified(unittest.TestCase):
    authority: Authority

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="orchd-tls-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.authority = Authority(cls.folder)

    def remote(self, daemon: Daemon, *args: object, code: int = 0, host: str = "localhost", port: str = "grpc",
               ca: Path | None = None, token: str | None = None) -> str:
        """As from another machine: nothing but the address, the authority and a token."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCH_")}
        environment |= {"HOME": str(self.folder), "NO_COLOR": "1", "ORCH_TOKEN": daemon.token if token is None else token}
        server = f"https://{host}:{port_of(daemon, port)}"
        done = subprocess.run([BIN / "orchctl", *map(str, args), "--server", server, "--ca", ca or self.authority.certificate],
                              env=environment, text=True, capture_output=True, timeout=120)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout if code == 0 else done.stderr


class Serving(Certified):
    def setUp(self) -> None:
        self.pair = self.authority.sign("daemon")
        self.daemon = Daemon(flags=flags(self.pair), ca=self.authority.certificate)
        self.addCleanup(self.daemon.close)
        self.daemon.start()

    def test_both_ports_speak_tls_and_nothing_else(self) -> None:
        self.assertTrue(self.daemon.server["tls"])
        self.assertTrue(str(self.daemon.server["http"]).startswith("https://"))
        self.assertIn('"runs"', self.remote(self.daemon, "list-runs", "-o", "json"))
        self.assertEqual(self.daemon.http("/orch.v1.RunService/ListRuns", {})[0], 200)
        self.assertEqual(self.daemon.http("/healthz", token=None)[0], 200)
        self.assertEqual(self.daemon.http("/orch.v1.RunService/ListRuns", {}, token=None)[0], 401)
        for kind in ("grpc", "http"):
            with self.subTest(kind), socket.create_connection(("127.0.0.1", port_of(self.daemon, kind)), 20) as plain:
                plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertNotIn(b"HTTP/1.1 200", plain.recv(100))
        plain = subprocess.run([BIN / "orchctl", "list-runs", "--timeout", "2s", "--server",
                                f"127.0.0.1:{port_of(self.daemon, 'grpc')}"], env=self.daemon.environment(),
                               text=True, capture_output=True)
        self.assertEqual(plain.returncode, 7, plain.stderr)

    def test_old_versions_of_tls_are_refused(self) -> None:
        for kind in ("grpc", "http"):
            context = ssl.create_default_context(cafile=str(self.authority.certificate))
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_alpn_protocols(["h2"])
            with self.subTest(kind), socket.create_connection(("127.0.0.1", port_of(self.daemon, kind)), 20) as plain:
                with self.assertRaises((ssl.SSLError, OSError)):
                    context.wrap_socket(plain, server_hostname="localhost")

    def test_a_run_from_end_to_end(self) -> None:
        path = self.daemon.file("name: far\nsteps:\n  - {name: a, command: [sh, -c, 'echo over there']}\n")
        name = self.remote(self.daemon, "submit", path).strip()
        self.remote(self.daemon, "wait-run", name)
        self.assertIn("over there", self.remote(self.daemon, "logs", name, "a"))
        self.assertIn("SUCCEEDED", self.remote(self.daemon, "watch-run", name, "-o", "json"))

    def test_the_python_client(self) -> None:
        script = ("import sys\nfrom orchd import Client\n"
                  "with Client(sys.argv[1], ca=sys.argv[2]) as client:\n    print(client.server_info().version)\n")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCH_")}
        environment |= {"HOME": str(self.folder), "ORCH_TOKEN": self.daemon.token,
                        "PYTHONPATH": f"{ROOT}/client/python/src:{BIN.parent}/client/python"}
        server = f"https://localhost:{port_of(self.daemon, 'grpc')}"
        done = subprocess.run([sys.executable, "-c", script, server, str(self.authority.certificate)], env=environment,
                              text=True, capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"^\d")

    def test_what_clients_say(self) -> None:
        stranger = Authority(self.folder / "stranger")
        error = self.remote(self.daemon, "list-runs", code=7, ca=stranger.certificate)
        self.assertIn("not signed by", error)
        self.assertIn("--ca", error)
        other = Daemon(flags=flags(self.authority.sign("elsewhere", "DNS:elsewhere.example")))
        self.addCleanup(other.close)
        other.start()
        self.assertIn("for another name", self.remote(other, "list-runs", code=7))
        self.assertIn("--listen", self.remote(self.daemon, "list-runs", code=7, port="http"))
        self.assertIn("create-token", self.remote(self.daemon, "list-runs", code=4, token=""))
        self.assertIn("refused the token", self.remote(self.daemon, "list-runs", code=4, token="nonsense"))
        plain = Daemon()
        self.addCleanup(plain.close)
        plain.start()
        self.assertIn("does not speak TLS", self.remote(plain, "list-runs", code=7))
        self.assertIn("CA file", self.remote(self.daemon, "list-runs", code=2, ca=self.folder / "nowhere"))

    def test_another_certificate_without_a_break(self) -> None:
        """A watch that is open goes on, new connections are shown the new one; a bad pair changes nothing."""
        old = serial(self.pair[0])
        self.assertEqual({shown(self.daemon, kind, self.authority.certificate) for kind in ("grpc", "http")}, {old})
        name = self.daemon.submit("name: long\nsteps:\n  - {name: a, command: [sleep, '600']}\n")
        environment = {**self.daemon.environment(), "ORCH_TOKEN": self.daemon.token}
        watch = subprocess.Popen([BIN / "orchctl", "watch-run", name, "--server",
                                  f"https://localhost:{port_of(self.daemon, 'grpc')}", "--ca", self.authority.certificate],
                                 env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(watch.kill)
        assert watch.stdout and watch.stderr and self.daemon.process
        self.assertIn("long", watch.stderr.readline())  # it is connected

        stranger_key = Authority(self.folder / "stranger2").sign("x")[1]
        shutil.copyfile(stranger_key, self.pair[1])  # of another certificate
        os.kill(self.daemon.process.pid, signal.SIGHUP)
        wait_for("a word of the bad pair", lambda: "the certificate stays as it was" in self.daemon.log())
        self.assertIn("is not the key of the certificate", self.daemon.log())
        self.assertEqual({shown(self.daemon, kind, self.authority.certificate) for kind in ("grpc", "http")}, {old})

        new = serial(self.authority.sign("daemon")[0])  # the same files; nobody is told
        self.assertNotEqual(old, new)
        for kind in ("grpc", "http"):
            wait_for(f"the new certificate on {kind}",
                     lambda kind=kind: shown(self.daemon, kind, self.authority.certificate) == new, 60, every=0.1)
        self.assertIsNone(watch.poll())
        self.daemon.ctl("cancel-run", name)
        _, lines = watch.communicate(timeout=60)
        self.assertIn("CANCELLED", lines)
        self.assertEqual(watch.returncode, 5)
        self.assertEqual(self.daemon.process.poll(), None)

    def test_clients_on_this_machine_need_none_of_it(self) -> None:
        self.daemon.ctl("list-runs")
        done = self.daemon.run("name: near\nsteps:\n  - {name: a, command: ['true']}\n")
        self.assertEqual(done["a"]["state"], "SUCCEEDED")
        self.assertEqual(json.loads((self.daemon.data / "server.json").read_text())["tls"], True)


class Starting(Certified):
    def refused(self, *args: object, words: tuple[str, ...]) -> str:
        data = self.folder / "data"
        command = [BIN / "orchd", "--data-dir", data, *map(str, args)]
        for flag in ("--listen", "--http-listen"):
            command += [] if flag in args else [flag, "127.0.0.1:0"]
        done = subprocess.run(command, text=True, capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 2, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertFalse(data.exists(), "it began to work")
        return done.stderr

    def test_other_addresses_need_tls(self) -> None:
        for flag in ("--listen", "--http-listen"):
            for address in ("0.0.0.0:0", "10.1.2.3:0", "[::]:0"):
                self.refused(flag, address, words=("no loopback address", "--tls-cert"))
        pair = self.authority.sign("any")
        daemon = Daemon(flags=[*flags(pair), "--listen", "0.0.0.0:0", "--http-listen", "0.0.0.0:0"],
                        ca=self.authority.certificate)
        self.addCleanup(daemon.close)
        daemon.start()
        self.assertIn('"runs"', self.remote(daemon, "list-runs", "-o", "json", host="127.0.0.1"))

    def test_bad_pairs_are_refused_by_the_names_of_their_files(self) -> None:
        pair = self.authority.sign("good")
        other = self.authority.sign("other")
        text = self.folder / "text"
        text.write_text("nothing of the kind\n")
        text.chmod(0o600)
        self.refused("--tls-cert", pair[0], words=("tls_key: ", "--tls-key"))
        self.refused("--tls-key", pair[1], words=("tls_cert: ", "--tls-cert"))
        self.refused(*flags((pair[0], other[1])), words=(f"tls_key: {other[1]} is not the key of", str(pair[0])))
        self.refused(*flags((text, text)), words=(f"tls_cert: {text} holds no certificate", f"tls_key: {text} holds no private key"))
        self.refused(*flags((self.folder / "gone", self.folder / "gone")), words=("tls_cert: ", "tls_key: ", "cannot be read"))
        self.refused(*flags((self.folder, pair[1])), words=("is no file of at most 1 MiB",))
        expired = self.authority.sign("expired", last="20210101000000Z")
        self.refused(*flags(expired), words=(f"tls_cert: {expired[0]} expired at 2021-01-01",))
        early = self.authority.sign("early", first="20380101000000Z")
        self.refused(*flags(early), words=("is valid only from 2038-01-01",))
        locked = self.folder / "locked.key"
        openssl("ec", "-in", pair[1], "-aes256", "-passout", "pass:secret", "-out", locked)
        locked.chmod(0o600)
        self.refused(*flags((pair[0], locked)), words=("needs a passphrase",))
        broken = self.folder / "broken.pem"
        broken.write_text(pair[0].read_text() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.refused(*flags((broken, pair[1])), words=("broken certificate after the first",))

    def test_a_key_that_others_can_read_is_refused(self) -> None:
        pair = self.authority.sign("open")
        for mode in (0o644, 0o604, 0o620, 0o660):
            pair[1].chmod(mode)
            self.refused(*flags(pair), words=(f"has mode {mode:04o}", "chmod 600"))
        pair[1].chmod(0o400)
        done = subprocess.run([BIN / "orchd", "--check-config", *flags(pair)], text=True, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
