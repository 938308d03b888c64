"""Steps on nodes that share nothing with the daemon but a folder for scripts and logs: all else goes through it, with TLS."""
import signal
import socket
import unittest

from tests.lib.certificates import Authority, flags
from tests.lib.daemon import BIN, Daemon, wait_for
from tests.lib.slurm import PLUGIN, Cluster

SECRET = "very-secret-value-17"


class Apart(unittest.TestCase):
    slow = 20

    def setUp(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.daemon = Daemon("grace: 2s\n")
        self.addCleanup(self.daemon.close)
        authority = Authority(self.daemon.home / "certificates")
        self.daemon.ca = authority.certificate
        self.daemon.flags = ["--http-listen", address, *flags(authority.sign("orchd")), "--step-endpoint", f"https://{address}",
                             "--step-ca", str(authority.certificate)]
        self.cluster = Cluster(cpus=16)
        self.addCleanup(self.cluster.down)
        self.cluster.up()
        self.daemon.data.mkdir(mode=0o700, exist_ok=True)
        self.cluster.hide(self.daemon.data)
        self.daemon.start()
        self.daemon.ctl("register-flavor", PLUGIN)
        self.shared = self.daemon.home / "shared"
        self.work = self.daemon.home / "work"
        self.work.mkdir()
        self.daemon.ctl("register-orchestrator", "hpc", "--flavor", "slurm", *[w for c in (
            f"slurm_conf={self.cluster.conf}", "settle_seconds=5", "artifacts=daemon", f"folder={self.shared}", f"workspace={self.work}",
            f"launcher={BIN}/orch-launch") for w in ("--config", c)])

    def submit(self, text: str) -> str:
        """From a folder of its own, which the launcher fetches."""
        (self.daemon.home / "source").mkdir(exist_ok=True)
        return self.daemon.submit(text, "--orchestrator", "hpc", name="source/p.yaml")

    def test_inputs_outputs_secrets_and_ends(self) -> None:
        self.daemon.ctl("set-secret", "pw", stdin=SECRET)
        self.assertTrue(self.daemon.json("check-orchestrator", "hpc")["good"])
        source = self.daemon.home / "source"
        source.mkdir()
        (source / "said.txt").write_text("from the source\n")
        (source / "p.yaml").write_text(
            "name: p\nsteps:\n"
            f"  - {{name: hidden, command: [sh, -c, 'ls -A {self.daemon.data} | wc -l']}}\n"
            "  - {name: a, command: [sh, -c, 'echo seven > $ORCH_OUTPUT_F; mkdir ${outputs.d}; cp said.txt ${outputs.d}/x; echo 7 > ${outputs.v}'], "
            "outputs: {f: {}, d: {type: dir}, v: {value: true}}}\n"
            "  - {name: b, command: [sh, -c, 'cat $ORCH_INPUT_F ${inputs.d}/x; echo ${values.v} $ORCH_STEP; env | grep -c SLURM || true'], inputs: {f: a.f, d: a.d, v: a.v}}\n"
            "  - {name: secret, command: [sh, -c, 'echo it is $PW; cat $KEY >&2; printf %s \"$PW\" | wc -c'], secrets: {PW: pw, KEY: {name: pw, file: true}}}\n"
            "  - {name: code, command: [sh, -c, 'exit 3']}\n"
            "  - {name: none, command: [no-such-program]}\n"
            "  - {name: killed, command: [sh, -c, 'kill -SEGV $$$$']}\n"
            "  - {name: kept, command: ['true'], outputs: {o: {}}}\n")
        run = self.daemon.ctl("submit", source / "p.yaml", "--orchestrator", "hpc").stdout.split()[0]
        self.daemon.ctl("wait-run", run, "--timeout", "300s", code=1, timeout=330)
        self.assertEqual(self.daemon.ctl("logs", run, "hidden").stdout, "0\n", "the node does not see the data directory")
        self.assertEqual(self.daemon.ctl("logs", run, "b").stdout, "seven\nfrom the source\n7 b\n0\n")
        self.assertEqual(self.daemon.ctl("logs", run, "secret", "--stream", "stdout").stdout, f"it is ***\n{len(SECRET)}\n")
        self.assertEqual(self.daemon.ctl("logs", run, "secret", "--stream", "stderr").stdout, "***")
        steps = self.daemon.steps(run)
        self.assertEqual({n: s["reason"] for n, s in steps.items()},
                         {**dict.fromkeys(("hidden", "a", "b", "secret"), "REASON_UNSPECIFIED"), "code": "EXIT_CODE", "none": "COMMAND_NOT_FOUND",
                          "killed": "SIGNALED", "kept": "OUTPUT_MISSING"})
        self.assertEqual((steps["code"]["exit_code"], steps["killed"]["signal"]), (3, 11))
        folders = [self.shared, self.work, self.cluster.folder]
        held = [str(path) for folder in folders for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
        self.assertEqual(held, [])
        wait_for("nothing to be left", lambda: not list(self.work.iterdir()) and not list(self.shared.glob("*/*/*")), 60)

    def test_a_cancel_and_a_kill_of_the_daemon(self) -> None:
        run = self.submit(
            "name: p\nsteps:\n"
            "  - {name: a, command: [sh, -c, 'trap \"echo stopping; exit 0\" TERM; echo ready; while true; do sleep 0.1; done']}\n")
        wait_for("its word", lambda: "ready" in self.daemon.ctl("logs", run, "a").stdout, 60, every=0.1)
        self.daemon.ctl("cancel-run", run)
        self.daemon.ctl("wait-run", run, "--timeout", "120s", code=5)
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout, "ready\nstopping\n", "it is told once")
        gate = self.daemon.home / "gate"
        run = self.submit(
            f"name: p\nsteps:\n  - {{name: a, command: [sh, -c, 'echo ready; while [ ! -e {gate} ]; do sleep 0.1; done; seq 100000 > $ORCH_OUTPUT_F'], outputs: {{f: {{}}}}}}\n"
            "  - {name: b, command: [sh, -c, 'wc -l < $ORCH_INPUT_F'], inputs: {f: a.f}}\n")
        wait_for("its word", lambda: "ready" in self.daemon.ctl("logs", run, "a").stdout, 60, every=0.1)
        self.daemon.kill(signal.SIGKILL)
        gate.touch()  # it ends while nobody is there, and waits
        wait_for("its command to end", lambda: any((path / "output" / "f").exists() for path in self.work.iterdir()), 60)
        self.daemon.start()
        self.daemon.ctl("wait-run", run, "--timeout", "180s", timeout=200)
        self.assertEqual(self.daemon.ctl("logs", run, "b").stdout, "100000\n")
        self.assertEqual({s["attempt"] for s in self.daemon.steps(run).values()}, {1})


if __name__ == "__main__":
    unittest.main()
