"""A ZenML server with sign-in: the run's token is a secret of the run, and the server may be away for a while."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

from orchd.testing import Daemon

from waiting import wait_for

HERE = pathlib.Path(__file__).resolve().parent
FAULTY = HERE / "faulty"
SECONDS = 900


class Server(unittest.TestCase):
    enter = []  # before the words of a program that is to share the server's network

    @classmethod
    def setUpClass(cls):
        cls._folder = tempfile.TemporaryDirectory(prefix="orchd-zenml-server-")
        cls.addClassCleanup(cls._folder.cleanup)
        cls.folder = pathlib.Path(cls._folder.name)
        for name in ("server", "client"):
            (cls.folder / name).mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            cls.port = free.getsockname()[1]
        cls.key = cls.folder / "key"
        cls.start(cls.key)
        cls.addClassCleanup(cls.stop)
        cls.daemon = Daemon()
        cls.addClassCleanup(cls.daemon.close)
        url = f"http://127.0.0.1:{cls.port}"
        cls.environment = {
            **cls.clean(), "ZENML_CONFIG_PATH": str(cls.folder / "client"), "ZENML_STORE_URL": url,
            "ZENML_STORE_API_KEY": cls.key.read_text(), "ORCH_DATA_DIR": cls.daemon.data_dir,
            "ZENML_STORE_HTTP_TIMEOUT": "600",
        }  # fmt: skip

    @staticmethod
    def clean():
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZENML_", "ORCH_"))}
        return {**kept, "ZENML_ANALYTICS_OPT_IN": "false", "NO_COLOR": "1", "PYTHONPATH": str(HERE.parents[1] / "client/python/src")}

    @classmethod
    def start(cls, key=None):
        environment = {
            **cls.clean(), "ZENML_CONFIG_PATH": str(cls.folder / "server"), "ZENML_SERVER_AUTO_ACTIVATE": "1",
            "ZENML_SERVER_AUTH_SCHEME": "OAUTH2_PASSWORD_BEARER", "ZENML_SERVER_JWT_SECRET_KEY": "0123456789abcdef" * 4,
        }  # fmt: skip
        with open(cls.folder / "server.log", "ab") as log:
            cls.server = subprocess.Popen(
                [*cls.enter, sys.executable, "-W", "ignore", HERE / "server.py", str(cls.port), *([str(key)] if key else [])],
                env=environment, stdout=log, stderr=log, cwd=cls.folder,
            )  # fmt: skip

        def serves():
            if cls.server.poll() is not None:
                raise AssertionError((cls.folder / "server.log").read_text()[-3000:])
            asked = ["curl", "-sf", "--noproxy", "*", f"http://127.0.0.1:{cls.port}/health"]
            return subprocess.run([*cls.enter, *asked], stdout=subprocess.DEVNULL).returncode == 0

        wait_for("ZenML's server", serves)

    @classmethod
    def stop(cls):
        cls.server.send_signal(signal.SIGKILL)
        cls.server.wait()

    def client(self, name, **more):
        return subprocess.Popen(
            [*self.enter, sys.executable, "-W", "ignore", FAULTY / "client.py", name], env={**self.environment, **more},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder,
        )  # fmt: skip

    def outcome(self, client):
        told, _ = client.communicate(timeout=SECONDS)
        self.assertEqual(client.returncode, 0, told)
        return json.loads(told.splitlines()[-1])

    def test_the_token_is_nowhere(self):
        mark = self.folder / "token"
        run = self.outcome(self.client("tokens", MARK=str(mark)))
        self.assertEqual((run["status"], run["steps"]), ("completed", {"token": "completed"}))
        token = mark.read_text()
        self.assertGreater(len(token), 100)
        daemon = self.daemon.client
        known = daemon.get_run(run["name"])
        log = daemon.log_text(run["name"], "token")
        self.assertIn("the token is ***", log)
        answers = [log, repr(known), repr(daemon.list_steps(known)), repr(daemon.get_step(known.name, "token")),
                   repr(daemon.list_events(known)), repr(daemon.why(known, "token")), repr(daemon.list_artifacts())]  # fmt: skip
        asked = daemon._request("GetPipelineRequest", name=known.pipeline)
        stored = daemon._call("PipelineService.GetPipeline", asked)
        answers.append(str(stored))
        self.assertIn("zenml_store_api_token", str(stored.pipeline))  # by its name
        for answer in answers:
            self.assertNotIn(token, answer)
        # Deleted with the end of the run, by the daemon's own hook.
        wait_for("the secret to go", lambda: not [s for s in daemon.list_secrets() if s.name.startswith("zenml.")])
        looked = 0
        for path in pathlib.Path(self.daemon.folder).rglob("*"):
            if path.is_file():
                looked += 1
                self.assertNotIn(token.encode(), path.read_bytes(), path)
        self.assertGreater(looked, 5)
        api_key = self.key.read_text()
        self.assertNotIn(api_key, str(stored))

    def secrets(self):
        return [s.name for s in self.daemon.client.list_secrets() if s.name.startswith("zenml.")]

    def test_a_run_that_was_cancelled_keeps_no_token(self):
        with self.subTest("in orchd, while a client waits"):
            mark = self.folder / "cancelled"
            client = self.client("waits", MARK=str(mark), UNTIL=str(self.folder / "never"))
            wait_for("the step to begin", lambda: client.poll() is not None or mark.exists())
            self.assertEqual([name.rpartition(".")[2] for name in self.secrets()], ["zenml_store_api_token"])
            self.daemon.client.cancel_run(self.daemon.client.list_runs(limit=1)[0])
            self.assertEqual(self.outcome(client)["status"], "stopped")
            self.assertEqual(self.secrets(), [])
        with self.subTest("in ZenML, and nobody waits"):
            run = self.outcome(self.client("stopped", MARK=str(self.folder / "stopped")))
            self.assertEqual(run["status"], "stopped")
            self.assertEqual(self.secrets(), [])

    def test_a_submission_that_fails_leaves_no_token(self):
        client = self.client("refused")
        told, _ = client.communicate(timeout=SECONDS)
        self.assertNotEqual(client.returncode, 0)
        self.assertIn("nowhere", told)
        self.assertEqual(self.secrets(), [])

    def test_the_server_is_restarted_in_the_middle(self):
        mark, go = self.folder / "mark", self.folder / "go"
        client = self.client("waits", MARK=str(mark), UNTIL=str(go))
        wait_for("the step to begin", lambda: client.poll() is not None or (mark.exists() and mark.read_text()))
        self.stop()
        self.start()
        go.write_text("")
        run = self.outcome(client)
        self.assertEqual((run["status"], run["outputs"]), ("completed", {"waiting": 5, "afterwards": 6}))


if __name__ == "__main__":
    unittest.main()
