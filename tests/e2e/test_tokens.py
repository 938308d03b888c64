"""Tokens of clients and of steps: what each opens, and that it is shut when it should be."""
from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

import grpc

from tests.hostile.messages import calls
from tests.lib.api import METHODS, message
from tests.lib.certificates import Authority, flags
from tests.lib.daemon import BIN, Daemon, wait_for

OF_STEPS = {"/orch.v1.RunService/GetRun", "/orch.v1.RunService/GetStep", "/orch.v1.RunService/SendHeartbeat",
            "/orch.v1.ArtifactService/PublishArtifact"}
LONG = "name: long\nsteps:\n  - {name: a, command: [sleep, '600']}\n"


class Case(unittest.TestCase):
    config = ""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="orchd-tokens-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.authority = Authority(self.folder)
        self.daemon = Daemon(config=self.config, flags=flags(self.authority.sign("daemon")), ca=self.authority.certificate)
        self.addCleanup(self.daemon.close)
        self.daemon.start()

    def port(self, kind: str) -> int:
        return int(str(self.daemon.server[kind]).rsplit(":", 1)[1])

    def create(self, name: str, *more: object) -> str:
        return self.daemon.ctl("create-token", name, *more).stdout.strip()

    def environment(self, token: str) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ORCH_")}
        return clean | {"HOME": str(self.folder), "NO_COLOR": "1", "ORCH_TOKEN": token,
                        "ORCH_SERVER": f"https://localhost:{self.port('grpc')}", "ORCH_CA": str(self.authority.certificate)}

    def remote(self, token: str, *args: object, code: int = 0) -> str:
        """orchctl as on another machine, which has nothing but the token."""
        done = subprocess.run([BIN / "orchctl", *map(str, args)], env=self.environment(token), text=True,
                              capture_output=True, timeout=120)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def reason(self, token: str, method: str = "RunService/ListRuns", body: Any = None) -> str:
        """Over HTTP: the reason word of the refusal; empty: it was let in and did it."""
        status, answer = self.daemon.http(f"/orch.v1.{method}", {} if body is None else body, token=token)
        if status == 200:
            return ""
        details = json.loads(answer).get("details", [])
        return next((d["debug"]["reason"] for d in details if d["type"].endswith("ErrorInfo")), f"HTTP {status}")

    def grpc_reason(self, token: str) -> tuple[str, str]:
        """The same over gRPC: code and message."""
        credentials = grpc.ssl_channel_credentials(self.authority.certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{self.port('grpc')}", credentials) as channel:
            method = METHODS["RunService.ListRuns"]
            stub = channel.unary_unary(method.path, request_serializer=method.request.SerializeToString,
                                       response_deserializer=method.response.FromString)
            try:
                stub(message("ListRunsRequest"), timeout=60, metadata=[("authorization", f"Bearer {token}")])
            except grpc.RpcError as error:
                return error.code().name, error.details()
        return "", ""


class OfClients(Case):
    def test_shown_once_and_nowhere_else(self) -> None:
        value = self.create("ci", "--expires", "12h")
        self.assertRegex(value, r"^orch_[A-Za-z0-9_-]{43}$")
        self.assertEqual(self.reason(value), "")
        self.assertIn('"runs"', self.remote(value, "list-runs", "-o", "json"))
        listed = self.daemon.json("list-tokens")["tokens"]
        self.assertEqual([(t["name"], t["scope"]) for t in listed], [("ci", "FULL")])
        self.assertIn("expire_time", listed[0])
        self.assertNotIn(value, json.dumps(listed))
        self.assertIn("TOKEN_EXISTS", self.reason(self.daemon.token, "AuthService/CreateToken", {"name": "ci"}))
        self.daemon.ctl("create-token", "ci", code=8)
        made = self.daemon.json("create-token", "other", "--scope", "read", "--expires", "never")
        self.assertEqual(made["token"]["scope"], "READ")
        self.assertNotIn("expire_time", made["token"])
        self.assertEqual(self.daemon.ctl("list-tokens", "-o", "name").stdout.split(), ["ci", "other"])
        self.assertIn("good", self.daemon.ctl("list-tokens").stdout)
        self.daemon.stop()
        for token in (value, made["value"]):
            for file in [p for p in self.daemon.home.rglob("*") if p.is_file()]:
                self.assertNotIn(token.encode(), file.read_bytes(), file)

    def test_a_new_file_of_its_own(self) -> None:
        path = self.folder / "ci.token"
        out = self.daemon.ctl("create-token", "ci", "--output", path)
        self.assertNotIn("orch_", out.stdout + out.stderr)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(self.reason(path.read_text().strip()), "")
        self.remote("", "list-runs", "--token-file", path)
        self.daemon.ctl("create-token", "again", "--output", path, code=2)
        self.assertEqual(self.daemon.ctl("list-tokens", "-o", "name").stdout.split(), ["ci"])

    def test_what_each_scope_may(self) -> None:
        read, full = self.create("r", "--scope", "read"), self.create("f")
        path = self.daemon.file("name: p\nsteps:\n  - {name: a, command: ['true']}\n")
        self.assertIn("may only read", self.remote(read, "submit", path, code=4))
        run = self.remote(full, "submit", path).strip()
        self.remote(full, "wait-run", run)
        self.assertIn("SUCCEEDED", self.remote(read, "get-run", run))
        self.remote(read, "logs", run, "a")
        # Each call that changes something is closed to the one, and tokens to both.
        changing = {"SubmitRun", "CancelRun", "PauseRun", "ResumeRun", "SkipStep", "RetryRun", "DeleteRun", "Prune",
                    "RegisterPipeline", "InvalidateCache", "PublishArtifact", "RegisterOrchestrator", "UpdateOrchestrator",
                    "DeleteOrchestrator", "SetPool", "DeletePool", "SetStack", "SetSecret", "DeleteSecret"}
        seen = set()
        for call in calls():
            service, name = call.name[1:].split(".v1.")[-1].split("/")
            if call.streams or not call.name.startswith("/orch.v1."):
                continue
            method = f"{service}/{name}"
            if service == "AuthService" or name == "CreateBackup":
                self.assertEqual((self.reason(read, method), self.reason(full, method)), ("OWNER_ONLY", "OWNER_ONLY"), method)
            elif self.reason(read, method) == "TOKEN_SCOPE":
                seen.add(name)
                self.assertNotIn(self.reason(full, method), ("TOKEN_SCOPE", "OWNER_ONLY"), method)
        self.assertLessEqual(changing, seen)

    def test_expired_ones_are_refused(self) -> None:
        value = self.create("short", "--expires", "2s")
        wait_for("it to expire", lambda: self.reason(value) != "", 30)
        self.assertEqual(self.reason(value), "TOKEN_EXPIRED")
        code, words = self.grpc_reason(value)
        self.assertEqual(code, "UNAUTHENTICATED")
        self.assertIn("expired at", words)
        self.assertIn("create-token", self.remote(value, "list-runs", code=4))
        self.assertIn("expired", self.daemon.ctl("list-tokens").stdout)
        again = self.create("short")  # its name is free again
        self.assertEqual((self.reason(again), self.reason(value)), ("", "TOKEN_INVALID"))

    def test_revoked_ones_are_refused_at_once(self) -> None:
        value = self.create("gone")
        run = self.daemon.submit(LONG)
        watch = subprocess.Popen([BIN / "orchctl", "watch-run", run], env=self.environment(value), text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(watch.kill)
        assert watch.stderr and watch.stdout
        watch.stderr.readline()
        self.daemon.ctl("revoke-token", "gone")
        self.assertEqual(self.reason(value), "TOKEN_REVOKED")
        self.assertEqual(self.grpc_reason(value)[0], "UNAUTHENTICATED")
        self.assertEqual(watch.wait(60), 4, "what it had opened goes on")
        watch.stdout.close()
        watch.stderr.close()
        self.daemon.ctl("revoke-token", "gone")  # changes nothing
        self.daemon.ctl("revoke-token", "nobody", code=3)
        self.daemon.restart(9)
        self.assertEqual(self.reason(value), "TOKEN_REVOKED")
        self.assertEqual([t["name"] for t in self.daemon.json("list-tokens")["tokens"] if "revoke_time" in t], ["gone"])

    def test_they_outlive_a_kill(self) -> None:
        value = self.create("kept", "--scope", "read")
        self.daemon.kill()
        self.daemon.start()
        self.assertEqual(self.reason(value), "")
        self.assertEqual(self.reason(value, "RunService/SubmitRun"), "TOKEN_SCOPE")
        used = wait_for("its use to be noted", lambda: self.daemon.json("list-tokens")["tokens"][0].get("last_use_time"))
        self.assertRegex(used, r":00:00(\.0+)?Z$")  # to the hour

    def test_bad_input(self) -> None:
        for body in ({}, {"name": ""}, {"name": "a b"}, {"name": "x" * 300}, {"name": "ok", "lifetime": "0s"},
                     {"name": "ok", "lifetime": "-5s"}, {"name": "ok", "lifetime": "400000000s"}):
            self.assertEqual(self.reason(self.daemon.token, "AuthService/CreateToken", body), "REQUEST_INVALID", body)
        self.daemon.ctl("create-token", "x", "--expires", "soon", code=2)
        self.daemon.ctl("create-token", "x", "--scope", "all", code=2)
        self.assertEqual(self.daemon.json("list-tokens"), {"tokens": [], "next_page_token": ""})

    def test_wrong_ones(self) -> None:
        good = self.create("good")
        for wrong in (good[:-1], good + "x", good[:-1] + ("A" if good[-1] != "A" else "B"), "orch_", "orch_" + "A" * 43,
                      "x" * 5000, good.upper(), "." * 85):
            self.assertEqual(self.reason(wrong), "TOKEN_INVALID", wrong)
            self.assertEqual(self.grpc_reason(wrong)[0], "UNAUTHENTICATED", wrong)

    def test_a_browser_signed_in_by_a_token_has_no_more_than_it(self) -> None:
        read = self.create("r", "--scope", "read")
        link = json.loads(self.daemon.http("/orch.v1.AdminService/CreateSignInLink", {}, token=read)[1])["url"]
        path = "/" + link.split("/", 3)[3]
        curl = ["curl", "-sS", "--cacert", str(self.authority.certificate), "-c", str(self.folder / "jar"), "-b",
                str(self.folder / "jar")]
        base = f"https://localhost:{self.port('http')}"
        subprocess.run([*curl, "-o", os.devnull, base + path], check=True)
        self.assertIn("Secure", self._cookie_flags(base, path))

        def call(method: str) -> str:
            return subprocess.run([*curl, "-d", "{}", "-H", "Content-Type: application/json", f"{base}/orch.v1.{method}"],
                                  check=True, text=True, capture_output=True).stdout

        self.assertIn('"runs"', call("RunService/ListRuns"))
        self.assertIn("TOKEN_SCOPE", call("RunService/SubmitRun"))
        self.assertIn("OWNER_ONLY", call("AuthService/ListTokens"))
        self.daemon.ctl("revoke-token", "r")
        self.assertIn("TOKEN_REVOKED", call("RunService/ListRuns"))

    def _cookie_flags(self, base: str, used: str) -> str:
        """Of another link's answer: `used` works once."""
        link = json.loads(self.daemon.http("/orch.v1.AdminService/CreateSignInLink", {})[1])["url"]
        path = "/" + link.split("/", 3)[3]
        self.assertNotEqual(path, used)
        done = subprocess.run(["curl", "-sS", "-i", "--cacert", str(self.authority.certificate), base + path], check=True,
                              text=True, capture_output=True)
        return next(line for line in done.stdout.splitlines() if line.lower().startswith("set-cookie:"))


class Limited(Case):
    config = "limits: {api_tokens: 2}\n"

    def test_how_many(self) -> None:
        self.create("one")
        self.create("two")
        self.assertEqual(self.reason(self.daemon.token, "AuthService/CreateToken", {"name": "three"}), "TOO_MANY_TOKENS")
        self.daemon.ctl("revoke-token", "one")
        self.create("one")


class OfSteps(Case):
    def start(self) -> tuple[str, str, str]:
        """A run whose step waits; its token and its fence."""
        facts = self.folder / "facts"
        run = self.daemon.submit(
            "name: tokens\nsteps:\n  - name: a\n    outputs: {o: {}}\n    command:\n      - sh\n      - -c\n"
            f"      - 'echo x > $ORCH_OUTPUT_O; echo $ORCH_TOKEN $ORCH_FENCE > {facts}.new; mv {facts}.new {facts}; sleep 600'\n")
        wait_for("the step to say its token", facts.exists)
        token, fence = facts.read_text().split()
        return run, token, fence

    def test_it_may_do_what_a_step_needs_and_no_more(self) -> None:
        run, token, fence = self.start()
        other = self.daemon.submit(LONG)
        for call in calls():
            if call.streams or not call.name.startswith("/orch.v1."):
                continue
            reason = self.reason(token, call.name[len("/orch.v1."):])
            if call.name in OF_STEPS:
                self.assertNotEqual(reason, "TOKEN_INVALID", call.name)
            else:
                self.assertEqual(reason, "STEP_TOKEN", call.name)
        for path in ("/metrics", "/runs", f"/runs/{run}"):
            self.assertEqual(self.daemon.http(path, token=token)[0], 403, path)
        for stream, fields in (("RunService.WatchRuns", {"run": run}), ("LogService.TailLogs", {"run": run, "step": "a"})):
            credentials = grpc.ssl_channel_credentials(self.authority.certificate.read_bytes())
            with grpc.secure_channel(f"localhost:{self.port('grpc')}", credentials) as channel:
                method = METHODS[stream]
                answers = channel.unary_stream(method.path, request_serializer=method.request.SerializeToString,
                                               response_deserializer=method.response.FromString)(
                    method.request(**fields), timeout=60, metadata=[("authorization", f"Bearer {token}")])
                with self.assertRaises(grpc.RpcError) as refused:
                    list(answers)
                self.assertEqual(refused.exception.code(), grpc.StatusCode.PERMISSION_DENIED)

        def own(method: str, **body: Any) -> str:
            return self.reason(token, method, body)

        self.assertEqual(own("RunService/GetRun", name=run), "")
        self.assertEqual(own("RunService/GetStep", run=run, step="a"), "")
        self.assertEqual(own("RunService/SendHeartbeat"), "")
        for method, body in (("RunService/GetRun", {"name": other}), ("RunService/GetStep", {"run": other, "step": "a"}),
                             ("ArtifactService/PublishArtifact", {"run": other, "step": "a", "attempt": 1, "output": "o"}),
                             ("ArtifactService/PublishArtifact", {"attempt": 2, "output": "o"})):
            self.assertEqual(own(method, **body), "STEP_TOKEN", body)
        self.assertNotEqual(own("ArtifactService/PublishArtifact", output="o", fence="another"), "")
        self.assertEqual(own("ArtifactService/PublishArtifact", output="o", fence=fence), "")

    def test_it_dies_with_its_attempt(self) -> None:
        run, token, _ = self.start()
        self.assertEqual(self.reason(token, "RunService/GetRun", {"name": run}), "")
        self.daemon.restart(9)  # and not before it
        self.assertEqual(self.reason(token, "RunService/GetRun", {"name": run}), "")
        self.daemon.ctl("cancel-run", run, "--force")
        self.daemon.ctl("wait-run", run, code=5)
        wait_for("its token to die", lambda: self.reason(token, "RunService/GetRun", {"name": run}) == "TOKEN_INVALID")
        self.assertEqual(self.grpc_reason(token)[0], "UNAUTHENTICATED")

    def test_nobody_makes_one_up(self) -> None:
        run, token, _ = self.start()
        key, signature = token.split(".")
        for wrong in (key, key + ".", f"{key}.{'0' * 64}", f"{key}.{signature[:-1]}", f"{'a' * 20}.{signature}", "." + signature,
                      token.upper()):
            self.assertEqual(self.reason(wrong, "RunService/GetRun", {"name": run}), "TOKEN_INVALID", wrong)


class Given(Case):
    """The owner's token made elsewhere."""

    def restart(self, *more: str) -> None:
        self.daemon.stop()
        self.daemon.flags = [*flags(self.authority.sign("daemon")), *more]
        self.daemon.start()

    def test_it_counts_instead_of_the_daemons_own_and_changes_with_its_file(self) -> None:
        own = (self.daemon.data / "token").read_text().strip()
        file = self.folder / "given"
        file.write_text("a" * 40 + "\n")
        file.chmod(0o600)
        self.restart("--token-file", str(file))
        self.assertEqual(self.reason("a" * 40), "")
        self.assertEqual(self.reason(own), "TOKEN_INVALID")
        self.assertEqual((self.daemon.data / "token").read_text(), "a" * 40 + "\n")
        self.daemon.ctl("list-runs")
        file.write_text("b" * 40)
        self.restart("--token-file", str(file))
        self.assertEqual((self.reason("a" * 40), self.reason("b" * 40)), ("TOKEN_INVALID", ""))

    def test_one_that_is_of_no_use_is_refused_at_start(self) -> None:
        file = self.folder / "given"
        for text, mode, words in (("short", 0o600, "less than 32 letters"), ("a b" * 20, 0o600, "holds no token"), ("a" * 501, 0o600, "holds no token"),
                                  ("a" * 40, 0o644, "others can read it"), (None, 0, "cannot be read")):
            with self.subTest(words):
                file.unlink(missing_ok=True)
                if text is not None:
                    file.write_text(text)
                    file.chmod(mode)
                done = subprocess.run([BIN / "orchd", "--check-config", "--token-file", file], text=True, capture_output=True)
                self.assertEqual(done.returncode, 2)
                self.assertIn(f"token_file: {file} ", done.stderr)
                self.assertIn(words, done.stderr)
                self.assertNotIn("aaa", done.stderr)


if __name__ == "__main__":
    unittest.main()
