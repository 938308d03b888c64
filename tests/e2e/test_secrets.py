"""Secrets: steps get them, nobody else sees them: not the disk, the API, the logs, also over kills and upgrades."""
import os
import pty
import signal
import stat
import subprocess
import unittest
from pathlib import Path

from tests.crash.test_secrets import everywhere
from tests.lib.daemon import BIN, Daemon, wait_for

PASSWORD = "tiger-Umlaut-ä-7f3e9c"
LINES = "-----BEGIN-----\nsecond-line-of-it-5d1b\n-----END-----\n"


class Secrets(unittest.TestCase):
    daemon: Daemon

    def setUp(self) -> None:
        self.daemon = Daemon("grace: 300ms\n")
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.gate = self.daemon.home / "gate"

    def set(self, name: str, value: str, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.daemon.ctl("set-secret", name, *args, stdin=value, code=code)

    def wait_log(self, run: str, step: str, text: str) -> None:
        wait_for(f"{text!r} in the log of {step}", lambda: self.daemon.ctl("logs", run, step, code=None).stdout == text)

    def nowhere(self, value: bytes, when: str) -> None:
        shown = everywhere(self.daemon)
        for path, body in {"SecretService/ListSecrets": {}, "LogService/ReadLogs": {"run": "secret", "step": "a", "stream": "STDERR"},
                           "PipelineService/GetPipeline": {"name": "p"}}.items():
            shown["again " + path] = self.daemon.http(f"/orch.v1.{path}", body)[1]
        shown["get-step"] = self.daemon.ctl("get-step", "secret", "a", "-o", "json").stdout.encode()
        self.assertEqual([where for where, text in shown.items() if value in text], [], when)

    HALVES = """
name: p
steps:
  - name: a
    command:
      - sh
      - -c
      - |
        printf '<%s> ' "$PW"; printf '%s' "$PW" | head -c 10
        while [ ! -e {gate} ]; do sleep 0.02; done
        printf '%s' "$PW" | tail -c +11; printf ' %s|' "$PW$PW" >&2; cat "$KEY"; printf '%s' "$LONG"
        [ "$(wc -c < "$KEY")" = {size} ] || exit 3
        echo "$KEY" > ${{outputs.path}}
    outputs: {{path: {{value: false}}}}
    secrets: {{PW: db-password, KEY: {{name: key, file: true}}, LONG: long}}
"""

    def halves(self) -> str:
        self.set("db-password", PASSWORD)
        self.set("key", LINES)
        self.set("long", "L" * 40_000)
        run = self.daemon.submit(self.HALVES.format(gate=self.gate, size=len(LINES)), "--name", "secret")
        self.wait_log(run, "a", "<***> ")
        return run

    def ended(self, run: str) -> None:
        self.gate.touch()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout, "<***> ******" + "***")
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stderr").stdout, " ******|")

    def test_a_value_is_nowhere_also_over_a_kill(self) -> None:
        run = self.halves()
        values = (PASSWORD.encode(), PASSWORD.encode()[:16], b"second-line-of-it", b"L" * 1000)
        for value in values:
            self.nowhere(value, "while it runs")
        self.daemon.restart(signal.SIGKILL)
        self.ended(run)
        for value in values:
            self.nowhere(value, "after its end")
        step = self.daemon.json("get-step", run, "a")
        self.assertEqual({step["environment"][v] for v in ("PW", "KEY", "LONG")}, {"***"})
        self.daemon.ctl("get-artifact", "p.a.path", "--output", self.daemon.home / "path")
        path = (self.daemon.home / "path").read_text().strip()
        self.assertFalse(os.path.exists(path), f"{path} is still there")
        self.assertFalse(path.startswith(str(self.daemon.data)))

    def test_over_an_upgrade_of_the_supervisor(self) -> None:
        self.daemon.kill(signal.SIGKILL)
        os.kill(self.daemon.supervisor_pid(), signal.SIGKILL)
        wait_for("the supervisor to be gone", lambda: self.daemon.supervisor_pid() == 0)
        self.daemon.faults = "commit.after:1000000=kill"  # only to have the variable looked at
        self.daemon.launch(ORCH_VERSION_AS="0.0.1/wire1")
        self.daemon.wait_serving()
        run = self.halves()
        supervisor = self.daemon.supervisor_pid()
        self.daemon.kill(signal.SIGKILL)
        self.daemon.faults = ""
        self.daemon.start()  # of the version that is built: the supervisor becomes it by an exec
        self.assertEqual(self.daemon.supervisor_pid(), supervisor)
        self.assertNotIn(b"version-as", Path(f"/proc/{supervisor}/cmdline").read_bytes())
        self.ended(run)
        for value in (PASSWORD.encode(), b"second-line-of-it", b"L" * 1000):
            self.nowhere(value, "after the upgrade")

    def test_large_logs_are_exact_but_for_the_value(self) -> None:
        self.set("pw", PASSWORD)
        self.daemon.file("import os\np = os.environ['PW']\nfor i in range(20000):\n    print(str(i) + p * (i % 3) + 'x' * (i % 50))\n",
                         "large.py")
        run = self.daemon.submit("name: large\nsteps:\n  - name: a\n    command: [/usr/bin/python3, large.py]\n"
                                 "    secrets: {PW: pw}\n    env: {PYTHONIOENCODING: utf-8}\n")
        self.daemon.ctl("wait-run", run)
        expected = "".join(f"{i}{'***' * (i % 3)}{'x' * (i % 50)}\n" for i in range(20000))
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, expected)
        step = self.daemon.json("get-step", run, "a")
        self.assertEqual(int(step["attempts"][0]["stdout_bytes"]), len(expected))

    def test_a_stopped_step_keeps_what_it_wrote(self) -> None:
        self.set("pw", PASSWORD)
        run = self.daemon.submit("name: p\nsteps:\n  - name: a\n    secrets: {PW: pw}\n    command: [sh, -c, "
                                 "'trap \"echo bye $PW; exit 1\" TERM; echo in; while true; do sleep 0.02; done']\n")
        self.wait_log(run, "a", "in\n")
        self.daemon.ctl("cancel-run", run)
        self.daemon.ctl("wait-run", run, code=5)
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout, "in\nbye ***\n")

    def test_the_log_limit_holds(self) -> None:
        self.daemon.stop()
        self.daemon.config += "limits: {log_bytes: 100K}\n"
        self.daemon.start()
        self.set("pw", PASSWORD)
        step = self.daemon.run("name: p\nsteps:\n  - {name: a, command: ['yes'], secrets: {PW: pw}}\n", code=1)["a"]
        self.assertEqual(step["reason"], "LOG_LIMIT")

    def test_a_missing_one_is_refused_with_the_command_that_sets_it(self) -> None:
        text = "name: p\nsteps:\n  - name: a\n    command: ['true']\n    secrets: {PW: nobody, F: {name: gone, file: true}}\n"
        for verb in ("submit", "validate"):
            error = self.daemon.ctl(verb, self.daemon.file(text), code=8).stderr
            self.assertIn("orchctl set-secret nobody", error)
            self.assertIn("orchctl set-secret gone", error)
            self.assertRegex(error, r"pipeline\.yaml:5:\d+: ")
        many = ", ".join(f"V{i}: x" for i in range(65))
        self.assertIn("at most 64", self.daemon.ctl("submit", self.daemon.file(
            f"name: p\nsteps:\n  - name: a\n    command: ['true']\n    secrets: {{{many}}}\n"), code=8).stderr)

    def test_the_next_attempt_gets_a_changed_one(self) -> None:
        self.set("pw", "first-value")
        run = self.daemon.submit(f"""
name: p
steps:
  - name: a
    command: [sh, -c, 'printf %s $PW | wc -c; while [ ! -e {self.gate} ]; do sleep 0.02; done; [ $ORCH_ATTEMPT = 2 ]']
    secrets: {{PW: pw}}
    retry: {{max_attempts: 2, backoff: {{initial: 0s}}}}
""")
        self.wait_log(run, "a", "11\n")
        self.assertIn("set anew", self.set("pw", "second").stdout)
        self.gate.touch()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--attempt", 2).stdout, "6\n")

    def test_deletion_waits_for_who_needs_it(self) -> None:
        self.set("pw", PASSWORD)
        run = self.daemon.submit(f"""
name: p
steps:
  - {{name: a, command: [sh, -c, 'while [ ! -e {self.gate} ]; do sleep 0.02; done']}}
  - {{name: b, command: ['true'], after: [a], secrets: {{PW: pw}}}}
""")
        error = self.daemon.ctl("delete-secret", "pw", code=8).stderr
        self.assertIn(f"needed by step `b` of run `{run}`", error)
        self.daemon.restart(signal.SIGKILL)
        self.daemon.ctl("delete-secret", "pw", code=8)
        self.daemon.ctl("delete-secret", "pw", "--force")
        self.gate.touch()
        self.daemon.ctl("wait-run", run, code=1)
        step = self.daemon.steps(run)["b"]
        self.assertEqual(step["reason"], "SECRET_MISSING")
        self.assertIn("orchctl set-secret pw", step["message"])
        self.assertEqual(self.daemon.json("list-secrets"), {"secrets": [], "next_page_token": ""})
        self.daemon.ctl("delete-secret", "pw", code=3)

    def test_the_cache_knows_the_name_alone(self) -> None:
        text = "name: p\nsteps:\n  - name: a\n    command: ['true']\n    cache: {{enabled: true}}\n    secrets: {{PW: {0}}}\n"
        self.set("one", "value-1")
        self.set("two", "value-1")
        self.assertEqual(self.daemon.run(text.format("one"))["a"]["state"], "SUCCEEDED")
        self.set("one", "value-2")
        self.assertEqual(self.daemon.run(text.format("one"))["a"]["state"], "CACHED")
        self.assertEqual(self.daemon.run(text.format("two"))["a"]["state"], "SUCCEEDED")

    def test_values_at_their_limits(self) -> None:
        self.assertIn("64", self.set("big", "x" * (64 << 10)).stderr + "64")
        self.assertIn("limit secret_bytes", self.set("big", "x" * ((64 << 10) + 1), code=8).stderr)
        self.assertIn("empty", self.set("none", "\n", code=2).stderr)
        self.assertIn("no name", self.set("not a name", "x", code=8).stderr)
        binary = subprocess.run([BIN / "orchctl", "set-secret", "bin"], input=b"\xff\0\xfe" * 4, env=self.daemon.environment(),
                                capture_output=True, check=True)
        self.assertIn(b"as a file only", binary.stdout)
        text = "name: p\nsteps:\n  - name: a\n    command: [sh, -c, 'od -An -tx1 $F']\n    secrets: {F: %s}\n"
        self.assertIn("file: true", self.daemon.ctl("submit", self.daemon.file(text % "bin"), code=8).stderr)
        run = self.daemon.submit(text % "{name: bin, file: true}")
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout.split(), ["ff", "00", "fe"] * 4)

    def test_line_ends(self) -> None:
        text = "name: p\nsteps:\n  - name: a\n    command: [sh, -c, 'wc -c < $F']\n    secrets: {F: {name: s, file: true}}\n"
        for value, args, size in (("abc\n", (), 3), ("abc\n", ("--raw",), 4), ("a\nb\n", (), 4), ("abc", (), 3)):
            self.set("s", value, *args)
            run = self.daemon.submit(text)
            self.daemon.ctl("wait-run", run)
            self.assertEqual(self.daemon.ctl("logs", run, "a").stdout.strip(), str(size), (value, args))

    def test_the_prompt_shows_nothing(self) -> None:
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(BIN / "orchctl", ["orchctl", "set-secret", "typed"], self.daemon.environment())
        seen = b""
        while b"not shown" not in seen:
            seen += os.read(terminal, 1000)
        os.write(terminal, PASSWORD.encode() + b"\n")
        try:
            while chunk := os.read(terminal, 1000):
                seen += chunk
        except OSError:
            pass  # its end, as terminals say it
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, seen)
        self.assertNotIn(PASSWORD.encode(), seen)
        self.assertIn(b"secret typed is set", seen)

    def test_what_a_list_shows_and_a_bad_request_does_not(self) -> None:
        self.set("pw", PASSWORD)
        self.set("pw", PASSWORD)
        (shown,) = self.daemon.json("list-secrets")["secrets"]
        self.assertEqual(set(shown), {"name", "project", "create_time", "update_time", "version", "binary"})
        self.assertEqual(shown["version"], 2)
        self.assertRegex(self.daemon.ctl("list-secrets").stdout, r"pw +\S+.*2")
        status, _ = self.daemon.http("/orch.v1.SecretService/SetSecret", {"name": "http", "text": PASSWORD})
        self.assertEqual(status, 200)
        for body in ({"name": "bad name", "text": PASSWORD}, {"name": "x", "text": PASSWORD, "data": "eA=="}, {"name": "x", "valeu": PASSWORD},
                     {"name": "x", "text": PASSWORD * 5000}):
            status, answer = self.daemon.http("/orch.v1.SecretService/SetSecret", body)
            self.assertEqual(status, 400, answer)
            self.assertNotIn(PASSWORD.encode(), answer)
        self.assertNotIn(PASSWORD, self.daemon.log())

    def test_the_key(self) -> None:
        key = self.daemon.data / "secret-key"
        self.assertFalse(key.exists(), "made at first need")
        self.set("pw", PASSWORD)
        self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        self.daemon.restart(signal.SIGKILL)
        text = "name: p\nsteps:\n  - {name: a, command: [sh, -c, 'test \"$PW\" = \"%s\"'], secrets: {PW: pw}}\n" % PASSWORD
        self.assertEqual(self.daemon.run(text)["a"]["state"], "SUCCEEDED")
        self.daemon.stop()
        key.chmod(0o640)
        self.daemon.start()
        self.assertIn("chmod 600", self.set("other", "value", code=8).stderr)
        self.assertIn("chmod 600", self.daemon.run(text, code=1)["a"]["message"])
        self.daemon.stop()
        key.chmod(0o600)
        saved = key.read_bytes()
        key.unlink()
        self.daemon.start()
        self.assertIn("secret-key is gone", self.set("other", "value", code=8).stderr)
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
        self.assertIn("cannot be read", self.daemon.run(text, code=1)["a"]["message"])
        self.daemon.stop()
        key.write_bytes(saved)
        self.daemon.start()
        self.assertEqual(self.daemon.run(text)["a"]["state"], "SUCCEEDED")


if __name__ == "__main__":
    unittest.main()
