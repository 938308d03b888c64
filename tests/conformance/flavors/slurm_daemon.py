"""The same, its steps run by a launcher on the node: inputs, secrets and outputs go through the daemon, no files are shared."""
from __future__ import annotations

import contextlib
import json
from pathlib import Path

from tests.conformance.flavors.slurm import Slurm
from tests.lib.daemon import Daemon, alive, wait_for
from tests.lib.slurm import PLUGIN


class SlurmDaemon(Slurm):
    variant = "artifacts: daemon"
    words = {"custom": "refused at submit"}
    lacks: dict[str, str] = {}

    def register(self, daemon: Daemon) -> str:
        daemon.ctl("register-flavor", PLUGIN)
        config = {**self.config, "artifacts": "daemon", "endpoint": f"unix:{daemon.data}/steps/http.sock", "workspace": str(daemon.home)}
        daemon.ctl("register-orchestrator", "conformance", "--flavor", self.name, "--config-file", daemon.file(json.dumps(config), "conformance-config.json"))
        return "conformance"

    def wait_ended(self, daemon: Daemon, step: str) -> None:
        """Its command: the launcher waits for the daemon, to tell it."""
        def runs() -> bool:
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):
                        if str(daemon.home).encode() not in (entry / "environ").read_bytes():
                            continue  # of a test that failed
                        environment = (entry / "environ").read_bytes().split(b"\0")
                        if f"ORCH_STEP={step}".encode() in environment and b"ORCH_ARTIFACTS=daemon" in environment and alive(int(entry.name)):
                            return True
            return False
        wait_for("its end", lambda: not runs(), self.seconds, every=0.1)

    def jobs(self, daemon: Daemon) -> list[str]:
        return super().jobs(daemon) + [str(path) for path in daemon.home.iterdir() if len(path.name) == 20]  # workspaces are named by the key


FLAVOR = SlurmDaemon()
