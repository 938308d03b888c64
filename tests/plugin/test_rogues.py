"""Plug-ins that crash, hang, lie and flood: the daemon says so plainly, starts nothing twice, and goes on."""
import json
import signal
import subprocess
import unittest
from pathlib import Path
from typing import Any

from tests.lib.daemon import BIN, ROOT, Daemon, wait_for
from tests.plugin.test_sample import plugin_pid

STUBS = BIN.parent / "plugins/python"
LIMITS = "limits: {plugin_start_seconds: 5, plugin_call_seconds: 2, plugin_message_bytes: 128Ki, plugin_log_bytes: 256Ki, plugin_messages_per_second: 50}\n"


class Rogues(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = Daemon(LIMITS)
        self.addCleanup(self.daemon.close)
        self.daemon.start()

    def program(self, vice: str) -> Path:
        path = self.daemon.home / f"orch-{vice}"
        path.write_text(f"#!/usr/bin/python3\nimport sys\nsys.path[:0] = [{str(STUBS)!r}, {str(ROOT)!r}]\n"
                        f"from tests.plugin import rogue\nrogue.main({vice!r})\n")
        path.chmod(0o755)
        return path

    def refused(self, vice: str) -> str:
        return " ".join(self.daemon.ctl("register-flavor", self.program(vice), code=8).stderr.split())

    def register(self, vice: str) -> None:
        self.daemon.ctl("register-flavor", self.program(vice), "--name", vice)
        self.daemon.ctl("register-orchestrator", vice, "--flavor", vice)

    def submit(self, vice: str) -> str:
        return self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n", "--orchestrator", vice)

    def ran(self, vice: str) -> list[str]:
        path = self.daemon.data / f"plugins/{vice}/state/ran"
        return path.read_text().split() if path.exists() else []

    def runs_once(self, vice: str) -> None:
        self.register(vice)
        run = self.submit(vice)
        self.daemon.ctl("wait-run", run, "--timeout", "90s")
        self.assertEqual(len(self.ran(vice)), 1, "submitted once")
        self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)

    def away(self, vice: str, words: str) -> str:
        """It cannot be used, `why` says so in these words, and nothing is lost."""
        run = self.submit(vice)
        wait_for("why to say it", lambda: words in " ".join(self.daemon.ctl("why", run, "a").stdout.split()), 60, every=0.1)
        return run

    def test_those_that_cannot_be_registered(self) -> None:
        self.assertIn("exit code 3; its last word: I cannot find my platform", self.refused("crash"))
        self.assertIn("did not say that it is ready within 5 s (limit plugin_start_seconds)", self.refused("silent"))
        self.assertIn("began with `Hello, I am a plug-in!` on stdout", self.refused("chatty"))
        said = self.refused("other-protocol")
        self.assertIn("its first line says protocol 1, Describe says 7", said)
        self.assertIn("Nothing was started", said)
        said = self.refused("bad-schema")
        self.assertIn("/oneOf is a keyword that is not supported", said)
        self.assertIn("must be letters, digits", said, "all at once")
        plain = self.daemon.file("not a program", "plain.txt")
        self.assertIn("chmod +x", self.daemon.ctl("register-flavor", plain, code=8).stderr)
        plain.chmod(0o755)
        self.assertIn("no program", self.daemon.ctl("register-flavor", plain, code=8).stderr)
        self.assertIn("cannot be started", self.daemon.ctl("register-flavor", "/no/such", code=8).stderr)
        self.assertEqual([f["name"] for f in self.daemon.json("list-flavors")["flavors"] if f.get("plugin")], [])

    def test_a_configuration_that_it_refuses(self) -> None:
        self.daemon.ctl("register-flavor", self.program("refuse-configure"), "--name", "picky")
        self.assertIn("is not to my taste", self.daemon.ctl("register-orchestrator", "p", "--flavor", "picky", code=8).stderr)
        self.daemon.ctl("register-flavor", self.program("hang-configure"), "--name", "slow")
        self.assertIn("did not answer in time", self.daemon.ctl("register-orchestrator", "s", "--flavor", "slow", code=8).stderr)
        self.assertEqual(len(self.daemon.json("list-orchestrators")["orchestrators"]), 1)

    def test_one_whose_jobs_share_no_files(self) -> None:
        self.daemon.ctl("register-flavor", self.program("bad-workspace"), "--name", "bad")
        said = self.daemon.ctl("register-orchestrator", "b", "--flavor", "bad", code=8).stderr
        self.assertIn("wants its jobs to work below `here`, which is no absolute path", said)
        self.register("apart")
        said = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n", "--orchestrator", "apart", code=8)
        self.assertIn("start orchd with --step-endpoint", said)
        self.daemon.flags = ["--step-endpoint", "https://127.0.0.1:1"]
        self.daemon.restart()
        # Its platform says that it ended well, and no launcher has said a word: what it made is lost.
        run = self.submit("apart")
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(self.daemon.steps(run)["a"]["reason"], "STORE_FAILED")
        self.assertEqual(len(self.ran("apart")), 1)

    def test_what_it_validates(self) -> None:
        self.register("validates")
        said = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true'], settings: {validates: {n: 1}}}\n", "--orchestrator",
                                  "validates", code=8)
        self.assertIn("1 is taken", said)

    def test_submissions_that_go_wrong_are_made_once(self) -> None:
        for vice in ("refuse-once", "fail-once", "hang-before", "hang-after", "die-after", "forget", "others", "gap"):
            with self.subTest(vice):
                self.runs_once(vice)
        self.assertIn("did not answer within 2 s (limit plugin_call_seconds)", self.daemon.log())

    def test_logs_that_come_slowly_are_whole(self) -> None:
        """Of many that end together most wait for longer than one may be silent."""
        self.register("slow-logs")
        run = self.daemon.submit("name: p\nsteps:\n  - name: a\n    foreach: {i: " + str(list(range(40))) + "}\n    command: ['true']\n",
                                 "--orchestrator", "slow-logs")
        self.daemon.ctl("wait-run", run, "--timeout", "90s")
        said = {i: self.daemon.ctl("logs", run, f"a[{i}]").stdout for i in range(40)}
        self.assertEqual([i for i, text in said.items() if text != "its word\n"], [])

    def test_lies_are_told_plainly(self) -> None:
        for vice, words in (("unknown-phase", "is in phase 17, which its protocol does not have"),
                            ("unknown-outcome", "answered Submit with outcome 99"),
                            ("no-end", "has ended, and not how")):
            with self.subTest(vice):
                self.register(vice)
                run = self.submit(vice)
                wait_for("the word of it", lambda: words in self.daemon.log(), 60)
                self.assertNotIn(self.daemon.state(run), ("SUCCEEDED", "FAILED"))
                self.assertLessEqual(len(self.ran(vice)), 1)

    def test_one_that_changes_its_protocol(self) -> None:
        self.register("fine")
        self.program("fine").write_text(self.program("liar").read_text())
        self.daemon.restart()
        self.away("fine", "contradicts itself: its first line says protocol 1, Describe says 7")
        self.assertEqual(self.ran("fine"), [])

    def test_a_platform_that_is_away(self) -> None:
        self.register("away")
        run = self.away("away", "the platform is on holiday")
        (self.daemon.data / "plugins/away/state/back").touch()
        self.daemon.ctl("wait-run", run, "--timeout", "60s")

    def test_one_that_hangs_is_started_again(self) -> None:
        self.register("hang-probe")
        pid = plugin_pid(self.daemon, "hang-probe")
        wait_for("the word of it", lambda: "hangs, and is started again" in self.daemon.log(), 60)
        wait_for("the next one", lambda: plugin_pid(self.daemon, "hang-probe") not in (0, pid), 30)

    def test_floods_are_bounded(self) -> None:
        self.register("flood")
        run = self.submit("flood")
        self.daemon.ctl("wait-run", run, "--timeout", "90s")
        sent = self.daemon.data / "plugins/flood/state/sent"
        wait_for("a flood", lambda: sent.exists() and int(sent.read_text() or 0) > 50)
        before = self.daemon.memory()
        self.assertLess(before, 100 << 20)
        self.assertEqual(self.daemon.ctl("list-runs").returncode, 0, "nobody else waits for it")
        self.register("huge")
        run = self.submit("huge")
        wait_for("the word of it", lambda: "in one message (limit plugin_message_bytes)" in self.daemon.log(), 60)
        self.daemon.ctl("wait-run", run, "--timeout", "60s")

    def test_what_it_writes_itself_is_bounded(self) -> None:
        self.register("scribbler")
        run = self.submit("scribbler")
        self.daemon.ctl("wait-run", run)
        folder = self.daemon.data / "plugins/scribbler"
        wait_for("both halves", lambda: (folder / "plugin.log.1").exists())
        self.assertLessEqual(sum((folder / name).stat().st_size for name in ("plugin.log", "plugin.log.1")), 256 << 10)

    def test_one_on_an_address_is_reached_with_mtls(self) -> None:
        home = self.daemon.home

        def openssl(*words: str) -> None:
            subprocess.run(["openssl", *words], cwd=home, check=True, capture_output=True)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                "-subj", "/CN=ca", "-days", "1")
        for name in ("plugin", "daemon"):
            openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                    "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-copy_extensions", "copyall",
                    "-out", f"{name}.pem", "-days", "1")
        state = home / "remote"
        state.mkdir()
        server = subprocess.Popen(["/usr/bin/python3", "-c", f"import sys\nsys.path[:0] = [{str(STUBS)!r}, {str(ROOT)!r}]\n"
                                   "from pathlib import Path\nimport orch_plugin\nfrom tests.plugin import rogue\n"
                                   f"orch_plugin.serve_at('127.0.0.1:0', rogue.Rogue('', Path({str(state)!r})), key=Path('plugin.key'),"
                                   " certificate=Path('plugin.pem'), client_ca=Path('ca.pem'))\n"],
                                  cwd=home, stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        assert server.stdout is not None
        self.addCleanup(server.stdout.close)
        port = json.loads(server.stdout.readline())["port"]
        tls = ["--ca", home / "ca.pem", "--cert", home / "daemon.pem", "--key", home / "daemon.key"]
        self.assertEqual(self.daemon.ctl("register-flavor", f"127.0.0.1:{port}", code=2).returncode, 2, "never without TLS")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "no.key", "-out", "no.pem",
                "-subj", "/CN=stranger", "-days", "1")
        self.daemon.ctl("register-flavor", f"127.0.0.1:{port}", "--ca", home / "ca.pem", "--cert", home / "no.pem", "--key", home / "no.key", code=8)
        self.daemon.ctl("register-flavor", f"127.0.0.1:{port}", *tls, "--name", "far")
        self.daemon.ctl("register-orchestrator", "far", "--flavor", "far")
        run = self.submit("far")
        self.daemon.ctl("wait-run", run)
        self.assertEqual(len((state / "ran").read_text().split()), 1)
        # Renewed by another authority: the daemon, which starts again, is a stranger until it has one of that.
        for file in ("ca.pem", "ca.key"):
            (home / file).rename(home / f"old-{file}")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                "-subj", "/CN=ca", "-days", "1")
        openssl("x509", "-req", "-in", "plugin.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-copy_extensions", "copyall",
                "-out", "plugin.pem", "-days", "1")
        self.daemon.restart(signal.SIGKILL)
        self.assertNotEqual(self.daemon.ctl("check-orchestrator", "far", code=None).returncode, 0)
        openssl("x509", "-req", "-in", "daemon.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-copy_extensions", "copyall",
                "-out", "daemon.pem", "-days", "1")
        self.daemon.restart(signal.SIGKILL)
        run = self.submit("far")
        self.daemon.ctl("wait-run", run)
        self.assertEqual(len((state / "ran").read_text().split()), 2)
        server.terminate()
        self.assertEqual(server.wait(60), 0)

    def test_only_the_daemon_may_call(self) -> None:
        self.register("fine")
        folder = self.daemon.data / "plugins/fine/run"
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        socket_path = next(p for p in folder.iterdir() if p.is_socket())
        code: Any = subprocess.run(["/usr/bin/python3", "-c", f"import sys\nsys.path.insert(0, {str(STUBS)!r})\nimport grpc\n"
                                    "from orch.backend.v1 import plugin_pb2, plugin_pb2_grpc\n"
                                    f"stub = plugin_pb2_grpc.BackendPluginStub(grpc.insecure_channel('unix:{socket_path}'))\n"
                                    "try:\n  stub.Describe(plugin_pb2.DescribeRequest())\nexcept grpc.RpcError as e:\n  print(e.code().name)\n"],
                                   capture_output=True, text=True)
        self.assertEqual(code.stdout.strip(), "UNAUTHENTICATED", code.stderr)


if __name__ == "__main__":
    unittest.main()
