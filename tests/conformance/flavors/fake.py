"""The platform without processes: what a step would do is in its settings."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conformance.flavor import DAEMON, Does, Flavor
from tests.lib.daemon import Daemon

NO_PROCESS = "it runs no process"


class Fake(Flavor):
    name = "fake"
    config = {"survive": True, "capacity": {"cpu": 8, "memory": "1Gi", "gpu": 0}}
    daemon_config = "grace: 1s\nflavors: {fake: true}\n"
    seconds = 20
    lacks = {
        "signals_are_told": NO_PROCESS, "cancel_reaches_the_process": NO_PROCESS, "logs_are_live": "its logs are empty",
        "logs_are_whole_and_streams_apart": "its logs are empty", "secrets_are_seen_by_nobody_else": NO_PROCESS,
        "what_a_step_finds": NO_PROCESS, "the_platform_dies_and_comes_back": "it is the daemon itself", "the_platform_is_away": "it is the daemon itself",
        "jobs_of_others_are_left_alone": "nobody else has jobs there",
        "custom": "it offers none", "early_edges": NO_PROCESS, "a_log_has_a_limit": "its logs are empty",
    }
    small = {"capacity": {"cpu": 2, "memory": "1Gi", "gpu": 3}}
    words = {"templates_and_environment": DAEMON}

    def jobs(self, daemon: Daemon) -> list[str]:
        folder = daemon.data / "fake/conformance"
        open_jobs: set[str] = set()
        for line in self.journal(daemon):
            (open_jobs.discard if line["what"] == "release" else open_jobs.add)(line["key"])
        return sorted(open_jobs) + [path.name for path in folder.iterdir() if path.is_dir()]

    def journal(self, daemon: Daemon) -> list[dict[str, Any]]:
        path = daemon.data / "fake/conformance/journal"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def step(self, name: str, does: Does, shared: Path, **more: Any) -> dict[str, Any]:
        script: dict[str, Any] = {}
        if does.exit:
            script |= {"outcome": "fail", "exit_code": does.exit}
        if does.memory:
            script["outcome"] = "oom"
        if does.fails_first:
            script["fail_attempts"] = does.fails_first
        if does.gate:
            script["gate"] = f"{shared}/gate-{does.gate}"
        if does.hold:
            script["duration"] = "1h"
        if does.on_term == "ignore":
            script["ignore_cancel"] = True
        if does.outputs:
            script["output"] = next(iter(does.outputs.values()))
        return {"name": name, "command": ["-"], **more, **({"settings": {"fake": script}} if script else {})}

    def refused_for_good(self, shared: Path) -> tuple[dict[str, Any], str]:
        return {"name": "a", "command": ["-"], "settings": {"fake": {"refuse": "permanent"}}}, "refused as its settings say"

    def wait_ended(self, daemon: Daemon, step: str) -> None:
        """Its gate is open, which is all that it waits for."""

    def executions(self, daemon: Daemon, step: str, shared: Path) -> list[int]:
        return [line["attempt"] for line in self.journal(daemon) if line["what"] == "submit" and line["step"] == step]


FLAVOR = Fake()
