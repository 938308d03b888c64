"""Tokens are nowhere but in their own files: not in other files, logs, answers, pages, URLs or command lines."""
import json
import os
import stat
import unittest
from pathlib import Path

from tests.lib.daemon import Daemon, wait_for


def everywhere(daemon: Daemon) -> dict[str, bytes]:
    """All that is written or shown, by where it is."""
    shown = {str(path): path.read_bytes() for path in [*daemon.data.rglob("*"), daemon.home / "orchd.log"]
             if path.is_file() and not path.is_symlink()}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                shown[f"command line of {entry.name}"] = (entry / "cmdline").read_bytes()
            except OSError:
                pass
    for call, body in {"RunService/GetRun": {"name": "secret"}, "RunService/ListRuns": {}, "RunService/ListEvents": {},
                       "RunService/ListSteps": {"run": "secret"}, "RunService/GetStep": {"run": "secret", "step": "a"},
                       "AdminService/GetServerInfo": {}, "ArtifactService/ListArtifacts": {},
                       "LogService/ReadLogs": {"run": "secret", "step": "a"}}.items():
        status, text = daemon.http(f"/orch.v1.{call}", body)
        assert status == 200, (call, text)
        shown[call] = text
    url = json.loads(shown["RunService/GetRun"])["run_metadata"]["orchestrator_url"]
    for path in ("/", "/metrics", "/healthz", "/" + url.split("/", 3)[3]):
        shown["page " + path] = daemon.http(path)[1]
    return shown


class Tokens(unittest.TestCase):
    def test_they_are_in_their_own_files_alone(self) -> None:
        with Daemon() as daemon:
            pid_file = daemon.home / "pid"
            script = (f"echo $$$$ > {pid_file}; echo out; echo x > ${{outputs.x}}; orch-launch publish x; "
                      f"while [ ! -e {pid_file}.end ]; do sleep 0.02; done")
            daemon.submit("name: secret\nsteps:\n  - name: a\n    command: [sh, -c, " + json.dumps(script) + "]\n"
                          "    outputs: {x: {}}\n", "--name", "secret")
            wait_for("the step", lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
            environment = Path(f"/proc/{int(pid_file.read_text())}/environ").read_bytes().split(b"\0")
            variables = dict(v.split(b"=", 1) for v in environment if b"=" in v)
            link = daemon.ctl("open-run", "secret", "--print", code=None).stdout
            tokens = {"the admin token": daemon.token.encode(), "the step's token": variables[b"ORCH_TOKEN"],
                      "the step's signature": variables[b"ORCH_TOKEN"].split(b".")[1],
                      "the key of step tokens": (daemon.data / "step-token-key").read_bytes()}
            self.assertNotIn(daemon.token, link)
            own = {"the admin token": str(daemon.data / "token"), "the key of step tokens": str(daemon.data / "step-token-key")}
            daemon.restart(9)  # a recovery writes too
            for state in ("while it runs", "after its end"):
                for what, token in tokens.items():
                    self.assertGreater(len(token), 20, what)
                    found = [where for where, text in everywhere(daemon).items() if token in text]
                    self.assertEqual(found, [own[what]] if what in own else [], f"{what}, {state}")
                if state == "while it runs":
                    (Path(f"{pid_file}.end")).touch()
                    daemon.ctl("wait-run", "secret")
            for path in own.values():
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600, path)
            self.assertEqual(stat.S_IMODE(os.stat(daemon.data).st_mode), 0o700)
            sockets = [p for p in daemon.data.rglob("*") if stat.S_ISSOCK(os.lstat(p).st_mode)]
            self.assertGreater(len(sockets), 0)
            for path in sockets:
                # Containers of other users are handed this one: the folder above keeps everybody else out, and every
                # call on it needs a token.
                mode = 0o666 if path == daemon.data / "steps" / "http.sock" else 0o600
                self.assertEqual(stat.S_IMODE(os.lstat(path).st_mode), mode, path)

    def test_a_step_token_dies_with_its_attempt(self) -> None:
        with Daemon() as daemon:
            name = daemon.submit("name: t\nsteps:\n  - {name: a, command: [sh, -c, 'printf %s $ORCH_TOKEN']}\n")
            daemon.ctl("wait-run", name)
            token = daemon.ctl("logs", name, "a").stdout.strip()
            self.assertGreater(len(token), 20)
            status, _ = daemon.http("/orch.v1.RunService/GetRun", {"name": name}, token=token)
            self.assertEqual(status, 401)


if __name__ == "__main__":
    unittest.main()
