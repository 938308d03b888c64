"""From another network: TLS, a step's token and a client's; what steps elsewhere are told of where the daemon is."""
from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.lib.certificates import Authority, flags
from tests.lib.daemon import BIN, Daemon, wait_for
from tests.lib.netns import namespace


class AnotherNetwork(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="orchd-far-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.authority = Authority(self.folder)

    def test_a_step_and_a_client_from_there(self) -> None:
        with namespace(os.getpid()) as wire:
            pair = self.authority.sign("daemon", f"IP:{wire.here}")
            daemon = Daemon(flags=[*flags(pair), "--listen", f"{wire.here}:0", "--http-listen", f"{wire.here}:0"],
                            ca=self.authority.certificate)
            self.addCleanup(daemon.close)
            daemon.start()
            self.assertIn(wire.here, daemon.server["http"])
            facts = self.folder / "facts"
            run = daemon.submit(
                "name: far\nsteps:\n  - name: a\n    outputs: {o: {}}\n    heartbeat: 600s\n    command:\n      - sh\n      - -c\n"
                f"      - 'echo x > $ORCH_OUTPUT_O; echo $ORCH_TOKEN $ORCH_FENCE $ORCH_RUN_ID > {facts}.new; mv {facts}.new {facts}; sleep 600'\n"
                "  - {name: b, command: ['true'], inputs: {o: {from: a.o, early: true}}}\n")
            wait_for("the step to say its token", facts.exists)
            token, fence, run_id = facts.read_text().split()
            step = {"ORCH_ENDPOINT": daemon.server["http"], "ORCH_TOKEN": token, "ORCH_FENCE": fence,
                    "ORCH_RUN_ID": run_id, "ORCH_STEP": "a", "ORCH_ATTEMPT": "1", "ORCH_CA": str(self.authority.certificate)}

            def there(*command: object, code: int = 0, **environment: str) -> str:
                done = subprocess.run([*wire.enter(), *map(str, command)], env={"PATH": os.environ["PATH"], **environment},
                                      text=True, capture_output=True, timeout=120)
                self.assertEqual(done.returncode, code, done.stderr)
                return done.stdout if code == 0 else done.stderr

            there(BIN / "orch-launch", "heartbeat", **step)
            self.assertRegex(there(BIN / "orch-launch", "publish", "o", **step), r"^art-\d+")
            wait_for("its early reader", lambda: daemon.steps(run)["b"]["state"] == "SUCCEEDED")
            client = daemon.ctl("create-token", "far", "--scope", "read").stdout.strip()
            known = {"ORCH_SERVER": f"https://{daemon.server['grpc']}", "ORCH_TOKEN": client,
                     "ORCH_CA": str(self.authority.certificate), "HOME": str(self.folder)}
            self.assertIn("RUNNING", there(BIN / "orchctl", "get-run", run, **known))
            self.assertIn("RUNNING", there(BIN / "orchctl", "get-run", run, **(known | {"ORCH_TOKEN": token})))  # the step's own
            there(BIN / "orchctl", "list-runs", code=4, **(known | {"ORCH_TOKEN": token}))
            there(BIN / "orchctl", "cancel-run", run, code=4, **known)
            # Nothing without the authority, or without a token.
            self.assertIn("not signed by", there(BIN / "orchctl", "get-run", run, code=7, **(known | {"ORCH_CA": ""})))
            there(BIN / "orch-launch", "heartbeat", code=1, **(step | {"ORCH_TOKEN": "x" * 80}))
            daemon.ctl("cancel-run", run, "--force")
            daemon.ctl("wait-run", run, code=5)
            wait_for("its token to die", lambda: subprocess.run(
                [*wire.enter(), BIN / "orch-launch", "heartbeat"], env={"PATH": os.environ["PATH"], **step},
                capture_output=True, timeout=120).returncode == 1)

    def test_bad_ones_are_refused_at_start(self) -> None:
        for url in ("http://10.0.0.1:7434", "https://10.0.0.1", "https://10.0.0.1:99999", "https://a b:1", "10.0.0.1:7434",
                    "https://10.0.0.1:7434/path", "https://u@h:1", "unix:/x"):
            done = subprocess.run([BIN / "orchd", "--check-config", "--step-endpoint", url], text=True, capture_output=True)
            self.assertEqual(done.returncode, 2, url)
            self.assertIn("step_endpoint: it must be https://HOST:PORT", done.stderr)
        done = subprocess.run([BIN / "orchd", "--check-config", "--step-ca", self.authority.key, "--step-endpoint", "https://h:1"],
                              text=True, capture_output=True)
        self.assertIn("holds no certificate", done.stderr)
        done = subprocess.run([BIN / "orchd", "--check-config", "--step-ca", self.authority.certificate], text=True, capture_output=True)
        self.assertIn("step_ca: it is for a step_endpoint", done.stderr)


if __name__ == "__main__":
    unittest.main()
