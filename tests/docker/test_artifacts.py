"""local_docker with `artifacts: daemon`: containers that see none of the daemon's files still get their inputs and land their outputs."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.lib.certificates import Authority, flags
from tests.lib.daemon import ROOT, Daemon, wait_for
from tests.lib.engine import Engine, shared_engine

STEPS = """
name: p
steps:
  - name: a
    command: [sh, -c, "cat beside.txt; echo data > ${outputs.f}; mkdir -p ${outputs.d}/s; echo x > ${outputs.d}/s/x; seq 200000 > ${outputs.d}/big; echo 7 > ${outputs.v}; id -u; pwd"]
    outputs: {f: {}, d: {type: dir}, v: {value: true}}
  - name: b
    foreach: {i: [1, 2]}
    inputs: {f: a.f, d: a.d, v: a.v}
    command: [sh, -c, "cat ${inputs.f} ${inputs.d}/s/x ${inputs.v}; wc -l < ${inputs.d}/big; echo ${item.i} > ${outputs.o}; ls /"]
    outputs: {o: {}}
  - name: c
    inputs: {all: "b[*].o"}
    command: [sh, -c, "cat ${inputs.all}/0*"]
"""


class Apart(unittest.TestCase):
    engine: Engine

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = shared_engine()

    def setUp(self) -> None:
        self.daemon = Daemon("grace: 1s\n")
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.register("docker", "network=none")
        self.addCleanup(self.nothing_is_left)

    def register(self, name: str, *more: str) -> None:
        words = [w for c in (f"host={self.engine.address}", "image=orch-test", "pull=never", "artifacts=daemon", *more) for w in ("--config", c)]
        self.daemon.ctl("register-orchestrator", name, "--flavor", "local_docker", *words)

    def nothing_is_left(self) -> None:
        for container in self.engine.containers():
            self.engine.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")

    def submit(self, text: str, *more: str) -> str:
        work = self.daemon.home / "work"
        work.mkdir(exist_ok=True)
        (work / "beside.txt").write_text("beside\n")
        (work / "p.yaml").write_text(text)
        return self.daemon.ctl("submit", work / "p.yaml", "--orchestrator", "docker", *more).stdout.strip().splitlines()[0]

    def mounts(self) -> list[tuple[str, str, bool]]:
        out = []
        for container in self.engine.containers():
            described = self.engine.call("GET", f"/containers/{container['Id']}/json")[1]
            out += [(m["Source"], m["Destination"], m["RW"]) for m in described["Mounts"]]
        return out

    def test_no_want_of_memory_is_missed(self) -> None:
        run = self.submit(f"name: p\nsteps:\n  - {{name: a, resources: {{memory: 16Mi}}, foreach: {{i: {list(range(60))}}}, "
                          "command: [sh, -c, 'x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done']}\n")
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual({s["reason"] for s in self.daemon.steps(run).values()}, {"OUT_OF_MEMORY"})

    def test_a_container_that_shares_nothing(self) -> None:
        run = self.submit(STEPS)
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "a").stdout, f"beside\n{os.geteuid()}\n/tmp/orch/source\n")
        log = self.daemon.ctl("logs", run, "b[1]").stdout
        self.assertTrue(log.startswith("data\nx\n7"), log)
        self.assertIn("200000\n", log)
        self.assertEqual(self.daemon.ctl("logs", run, "c").stdout, "1\n2\n")
        self.daemon.ctl("submit", self.daemon.home / "work/p.yaml", "--orchestrator", "local", "--name", "near", "--wait")
        self.assertIn("4 steps are the same", self.daemon.ctl("diff-runs", "near", run).stdout)
        self.assertEqual(os.listdir(self.daemon.data / "deliveries"), [])

    def test_nothing_of_the_daemon_is_mounted_but_its_launcher_and_its_socket(self) -> None:
        run = self.submit("name: p\nsteps:\n  - {name: a, command: [sh, -c, 'env; sleep 1000']}\n")
        wait_for("the step", lambda: "ORCH_TOKEN" in self.daemon.ctl("logs", run, "a").stdout)
        self.assertEqual(sorted((target, writable) for _, target, writable in self.mounts()),
                         [("/.orch/bin/orch-launch", False), ("/.orch/daemon", False), ("/.orch/secrets", False)])
        for source, target, _ in self.mounts():
            if target != "/.orch/secrets":  # its token
                self.assertIn(Path(source).name, ("orch-launch", "steps"))
        # Who opens the socket without a token is nobody.
        token = next(line.split("=", 1)[1] for line in self.daemon.ctl("logs", run, "a").stdout.splitlines() if line.startswith("ORCH_TOKEN="))
        def call(header: list[str]) -> str:
            return subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", self.daemon.data / "steps/http.sock",
                                   "-X", "POST", "-H", "Content-Type: application/json", *header, "-d", "{}", "http://x/orch.v1.RunService/ListRuns"],
                                  capture_output=True, text=True).stdout
        self.assertEqual(call([]), "401")
        self.assertEqual(call(["-H", f"Authorization: Bearer {token}"]), "403")
        self.daemon.ctl("cancel-run", run, "--force")
        self.daemon.ctl("wait-run", run, code=5)

    def test_ends_and_secrets(self) -> None:
        self.daemon.ctl("set-secret", "pw", stdin="very-secret-value")
        run = self.submit(
            "name: p\nsteps:\n"
            "  - {name: code, command: [sh, -c, 'exit 3']}\n"
            "  - {name: signal, command: [sh, -c, 'kill -9 $$$$']}\n"
            "  - {name: memory, resources: {memory: 24Mi}, command: [sh, -c, 'x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done']}\n"
            "  - {name: nothing, command: [no-such-program]}\n"
            "  - {name: output, command: ['true'], outputs: {o: {}}}\n"
            "  - {name: secret, command: [sh, -c, 'echo it is $PW; cat $KEY'], secrets: {PW: pw, KEY: {name: pw, file: true}}}\n")
        self.daemon.ctl("wait-run", run, code=1)
        reasons = {name: step["reason"] for name, step in self.daemon.steps(run).items()}
        self.assertEqual(reasons, {"code": "EXIT_CODE", "signal": "SIGNALED", "memory": "OUT_OF_MEMORY", "nothing": "COMMAND_NOT_FOUND",
                                   "output": "OUTPUT_MISSING", "secret": "REASON_UNSPECIFIED"})
        self.assertEqual(self.daemon.ctl("logs", run, "secret").stdout, "it is ***\n***")

    def test_the_daemon_is_killed_and_comes_back(self) -> None:
        run = self.submit("name: p\nsteps:\n"
                          "  - {name: a, command: [sh, -c, 'echo ready; sleep 2; seq 100000 > $ORCH_OUTPUT_F'], outputs: {f: {}}}\n"
                          "  - {name: b, inputs: {f: a.f}, command: [sh, -c, 'wc -l < $ORCH_INPUT_F']}\n")
        wait_for("the step", lambda: "ready" in self.daemon.ctl("logs", run, "a").stdout)
        self.daemon.kill(signal.SIGKILL)
        wait_for("the container to end", lambda: True)
        self.daemon.start()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "b").stdout, "100000\n")
        self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)

    def test_digits_gives_the_same_bytes(self) -> None:
        if subprocess.run(["/usr/bin/python3", "-c", "import sklearn, matplotlib"], capture_output=True).returncode != 0:
            self.skipTest("Debian's python3-sklearn and python3-matplotlib are not here")
        config = self.daemon.home / "config.json"  # an image of this machine's own Python
        config.write_text(json.dumps({"host": self.engine.address, "image": "orch-test", "network": "none", "pull": "never", "artifacts": "daemon",
                                      "mounts": ["/usr:/usr:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro", "/etc:/etc:ro"]}))
        self.daemon.ctl("register-orchestrator", "python", "--flavor", "local_docker", "--config-file", str(config))
        for orchestrator in ("local", "python"):
            self.daemon.ctl("submit", ROOT / "examples/digits/pipeline.yaml", "--name", f"on-{orchestrator}",
                            "--orchestrator", orchestrator, "--no-cache", "--wait", timeout=600)
        self.assertIn("15 steps are the same", self.daemon.ctl("diff-runs", "on-local", "on-python", code=None).stdout)

    def test_bad_configurations_are_refused(self) -> None:
        def refused(*config: str) -> str:
            words = [w for c in config for w in ("--config", c)]
            return self.daemon.ctl("register-orchestrator", "x", "--flavor", "local_docker", *words, code=8).stderr
        self.assertIn("http://HOST:PORT", refused("endpoint=here"))
        self.assertIn("PEM", refused("ca_file=/no/such/file"))
        self.assertIn("absolute path", refused("workspace=here"))
        self.assertIn("artifacts (shared, daemon)", refused("artifacts=else"))


class OverTheNetwork(unittest.TestCase):
    """The containers' own bridge, TLS, and nothing else between the step and the daemon."""

    def test_a_step_behind_a_bridge(self) -> None:
        engine = shared_engine()
        pid = (engine.folder / "pid").read_text().strip()
        inside = ["nsenter", "-t", pid, "-n"]
        gateway = subprocess.run([*inside, "ip", "-4", "-o", "addr", "show", "docker0"], capture_output=True, text=True).stdout.split()
        if "inet" not in gateway:
            self.skipTest("the engine has no bridge")
        address = gateway[gateway.index("inet") + 1].split("/")[0]
        folder = Path(tempfile.mkdtemp(prefix="orchd-tls-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        authority = Authority(folder)
        pair = authority.sign("bridge", f"IP:{address}")

        class Inside(Daemon):  # in the engine's network, as on a machine that the containers reach
            def command(self) -> list[str]:
                return [*inside, *super().command()]

        daemon = Inside("grace: 1s\n", flags=[*flags(pair), "--http-listen", f"{address}:0"], ca=authority.certificate)
        self.addCleanup(daemon.close)
        daemon.start()
        port = daemon.server["http"].rsplit(":", 1)[1]
        good = [w for c in (f"host={engine.address}", "image=orch-test", "pull=never", "artifacts=daemon", f"endpoint=https://{address}:{port}",
                            f"ca_file={authority.certificate}") for w in ("--config", c)]
        daemon.ctl("register-orchestrator", "docker", "--flavor", "local_docker", *good)
        work = daemon.home / "work"
        work.mkdir()
        (work / "beside.txt").write_text("beside\n")
        (work / "p.yaml").write_text(STEPS)
        daemon.ctl("submit", work / "p.yaml", "--orchestrator", "docker", "--name", "one", "--wait", timeout=300)
        self.assertEqual(daemon.ctl("logs", "one", "c").stdout, "1\n2\n")
        # Another authority than the one that signed: the launcher does not talk to it.
        other = Authority(folder / "other", "other")
        daemon.ctl("register-orchestrator", "wrong", "--flavor", "local_docker", *good[:-1], f"ca_file={other.certificate}")
        run = daemon.ctl("submit", work / "p.yaml", "--orchestrator", "wrong").stdout.split()[0]
        wait_for("the step", lambda: daemon.steps(run)["a"]["state"] == "RUNNING")
        daemon.ctl("cancel-run", run, "--force")
        daemon.ctl("wait-run", run, code=5)


if __name__ == "__main__":
    unittest.main()
