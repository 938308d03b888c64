"""Bad input gets a clear answer before any work, all faults at once, with their places."""
import os
import re
import subprocess
import unittest

from tests.lib.daemon import BIN, Daemon


class Refusals(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon()
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    def refused(self, text: str, *expected: str, args: tuple[str, ...] = ()) -> str:
        path = self.daemon.file(text, "bad.yaml")
        error = self.daemon.ctl("submit", path, *args, code=8).stderr
        for words in expected:
            self.assertIn(words, error)
        return error

    def step(self, more: str, command: str = "['true']") -> str:
        return f"name: p\nsteps:\n  - name: a\n    command: {command}\n{more}"

    def test_cycle(self) -> None:
        error = self.refused("name: p\nsteps:\n  - {name: a, command: [x], after: [b]}\n  - {name: b, command: [x], after: [a]}\n",
                             "wait for each other")
        self.assertRegex(error, r"a -> b -> a|b -> a -> b")

    def test_all_faults_at_once_with_places(self) -> None:
        error = self.refused("""name: p
steps:
  - name: a
    command: [x, "${inputs.nothing}"]
    after: [nobody]
  - name: b
    command: [x]
    inputs: {i: a.missing}
    resources: {cpu: 4000, memory: 900Ti}
""", "bad.yaml:4:", "bad.yaml:5:", "bad.yaml:8:", "bad.yaml:9:", "cpu 4000: local offers", "memory")
        self.assertGreaterEqual(len(re.findall(r"bad\.yaml:\d+:\d+: ", error)), 5)

    def test_duplicate_names(self) -> None:
        self.refused("name: p\nsteps:\n  - {name: a, command: [x]}\n  - {name: a, command: [x]}\n", ":4:")

    def test_wrong_types_and_unknown_keys(self) -> None:
        self.refused(self.step("    retry: {max_attempts: many}\n    prority: 3\n"), ":5:", "priority", ":6:")

    def test_template_to_missing_output(self) -> None:
        self.refused(self.step("", "[x, '${outputs.gone}']"), ":4:", "outputs.gone")

    def test_parameters(self) -> None:
        text = "name: p\nparameters: {n: {type: int}}\nsteps:\n  - {name: a, command: [x]}\n"
        self.refused(text, "n", "--param")
        self.refused(text, "whole number", args=("--param", "n=many"))
        self.refused(text, "no parameter", args=("--param", "n=1", "--param", "m=1"))

    def test_unknown_orchestrator_and_flavor(self) -> None:
        path = self.daemon.file(self.step(""))
        error = self.daemon.ctl("submit", path, "--orchestrator", "nowhere", code=None)
        self.assertIn("nowhere", error.stderr)
        self.assertIn(error.returncode, (3, 8))
        self.refused(self.step(""), "not in this build", args=("--orchestrator", "vertex"))
        error = self.daemon.ctl("register-orchestrator", "k", "--flavor", "vertex", code=8).stderr
        self.assertIn("not in this build", error)

    def test_flavors_are_all_listed(self) -> None:
        flavors = {f["name"]: f["status"] for f in self.daemon.json("list-flavors")["flavors"]}
        for name in ("local local_docker kubernetes kubeflow vertex sagemaker azureml tekton airflow vm_aws vm_gcp "
                     "vm_azure hyperai custom").split():
            self.assertIn(name, flavors)
        self.assertEqual(flavors["local"], "READY")
        self.assertEqual(flavors["vertex"], "NOT_IN_THIS_BUILD")

    def test_what_this_build_cannot_do(self) -> None:
        self.refused(self.step("    hooks: {on_failure: {webhook: 'http://x'}}\n"), "not in this build")

    def test_hostile_files(self) -> None:
        bombs = "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 12))
        cases = {
            "64 MiB": "name: p\n# " + "x" * (64 << 20),
            "anchors": "name: p\nx0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + bombs,
            "deep": "name: p\nsteps: " + "[" * 100_000,
            "binary": "\x00\x01\x02\x7f" * 100,
            "second document": self.step("") + "---\nname: q\n",
            "empty": "",
        }
        for what, text in cases.items():
            with self.subTest(what):
                before = self.daemon.memory()
                error = self.refused(text)
                self.assertTrue(error.strip())
                self.assertLess(len(error), 20_000)
                self.assertLess(self.daemon.memory() - before, 20 << 20)

    def test_too_many_steps(self) -> None:
        values = ", ".join(map(str, range(1001)))
        self.refused(self.step(f"    foreach: {{a: [{values}], b: [{values}]}}\n"), "fanout_width")

    def test_run_name_taken(self) -> None:
        self.daemon.submit(self.step(""), "--name", "taken")
        self.refused(self.step(""), "taken", args=("--name", "taken"))

    def test_one_line_errors(self) -> None:
        cases = [
            (("submit", "--no-such-flag"), 2), (("no-such-verb",), 2), (("get-run", "nobody"), 3),
            (("get-run", "x", "--server", "127.0.0.1:1"), 7), (("submit", "/no/such/file.yaml"), 2),
        ]
        for args, code in cases:
            with self.subTest(args):
                error = self.daemon.ctl(*args, code=code).stderr.strip()
                self.assertEqual(len(error.splitlines()), 1, error)
        error = self.daemon.ctl("list-runs", "--server", self.daemon.server["grpc"], code=4, ORCH_TOKEN="wrong").stderr
        self.assertEqual(len(error.strip().splitlines()), 1)
        self.assertIn("token", error)

    def test_second_daemon_is_refused_with_the_first_ones_pid(self) -> None:
        done = subprocess.run([BIN / "orchd", "--data-dir", self.daemon.data, "--listen", "127.0.0.1:0",
                               "--http-listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=30)
        self.assertNotEqual(done.returncode, 0)
        assert self.daemon.process is not None
        self.assertIn(str(self.daemon.process.pid), done.stderr)
        self.assertEqual(self.daemon.ctl("server-info").returncode, 0)

    def test_addresses_that_are_not_loopback(self) -> None:
        done = subprocess.run([BIN / "orchd", "--data-dir", self.daemon.home / "other", "--listen", "0.0.0.0:0"],
                              capture_output=True, text=True, timeout=30)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("TLS", done.stderr)

    def test_bad_configuration(self) -> None:
        path = self.daemon.file("listne: x\nlimits: {value_bytes: many}\n", "bad-config.yaml")
        done = subprocess.run([BIN / "orchd", "--check-config", "--config", path], capture_output=True, text=True, timeout=30)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(":1:", done.stderr + done.stdout)
        self.assertIn(":2:", done.stderr + done.stdout)

    def test_validate(self) -> None:
        self.assertEqual(self.daemon.ctl("validate", self.daemon.file(self.step(""))).returncode, 0)
        self.daemon.ctl("validate", self.daemon.file(self.step("    after: [x]\n")), code=8)


class Permissions(unittest.TestCase):
    def test_files_of_the_data_directory(self) -> None:
        with Daemon() as daemon:
            self.assertEqual(os.stat(daemon.data).st_mode & 0o777, 0o700)
            for name in ("token", "orchd.db", "server.json"):
                self.assertEqual(os.stat(daemon.data / name).st_mode & 0o077, 0, name)
            for name in ("grpc_unix", "http_unix"):
                self.assertEqual(os.stat(daemon.server[name]).st_mode & 0o777, 0o600, name)


if __name__ == "__main__":
    unittest.main()
