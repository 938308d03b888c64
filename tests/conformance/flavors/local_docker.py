"""Containers of a real Docker engine, in a network of its own."""
from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Callable

from tests.conformance.flavor import ASKED, KEPT, Does, Flavor
from tests.lib.daemon import Daemon, wait_for
from tests.lib.engine import Engine


class LocalDocker(Flavor):
    name = "local_docker"
    lost_answer_point = "docker.created"
    seconds = 120
    slow = 1.5
    image_needed = True

    def up(self) -> None:
        self.engine = Engine()
        self.engine.up()
        self.config = {"host": self.engine.address, "image": "orch-test", "network": "none", "pull": "never", "cpus": 8}

    def down(self) -> None:
        self.engine.down()

    def restart(self, daemon: Daemon) -> None:
        self.engine.kill(signal.SIGKILL)
        self.engine.up()

    def mine(self, daemon: Daemon) -> list[str]:
        """The ids of this daemon's containers."""
        folder = str(daemon.data)
        return [c["Id"] for c in self.engine.containers() if any(m["Source"].startswith(folder) for m in c["Mounts"])]

    words = {"cpu": KEPT, "memory": KEPT, "gpu": ASKED}

    def limits(self, daemon: Daemon, step: str) -> dict[str, Any]:
        container = next(c["Id"] for c in self.engine.containers() if c["Labels"].get("io.orchd.step") == step and c["State"] == "running")
        host = self.engine.call("GET", f"/containers/{container}/json")[1]["HostConfig"]
        assert host["MemorySwap"] == host["Memory"], "no swap"
        return {"cpu": host["NanoCpus"] / 1e9, "memory": host["Memory"]}

    def jobs(self, daemon: Daemon) -> list[str]:
        folder = daemon.data / "docker/conformance"
        return self.mine(daemon) + ([str(path) for path in folder.iterdir()] if folder.exists() else [])

    def shown(self, daemon: Daemon) -> dict[str, bytes]:
        out = {}
        for container in self.mine(daemon):
            for what in ("json", "top", "logs?stdout=1&stderr=1", "changes"):
                status, answer = self.engine.call("GET", f"/containers/{container}/{what}")
                out[f"{what} of {container}"] = answer if isinstance(answer, bytes) else json.dumps(answer, ensure_ascii=False).encode()
        out["list"] = json.dumps(self.engine.containers(), ensure_ascii=False).encode()
        for path in Path(self.engine.folder / "data/containers").rglob("*"):  # what the engine keeps on its disk
            if path.is_file():
                out[str(path)] = path.read_bytes()
        return out

    def take_away(self, daemon: Daemon) -> str:
        self.engine.kill(signal.SIGTERM)
        return "no docker engine listens"

    def bring_back(self, daemon: Daemon) -> None:
        self.engine.up()

    def refuse_for_now(self, daemon: Daemon) -> None:
        self.engine.kill(signal.SIGTERM)

    def refuse_no_more(self, daemon: Daemon, state: Callable[[], str]) -> None:
        wait_for("the word of it", lambda: "no Docker engine listens" in daemon.log(), self.seconds, every=0.05)
        assert state() in ("WAITING", "READY", "SUBMITTING"), state()
        self.engine.up()

    def refused_for_good(self, shared: Path) -> tuple[dict[str, Any], str]:
        return self.step("a", Does(), shared, image="no-such-image:1"), "No such image"

    def wait_ended(self, daemon: Daemon, step: str) -> None:
        wait_for("its end", lambda: all(c["State"] == "exited" for c in self.engine.containers() if c["Labels"].get("io.orchd.step") == step),
                 self.seconds)

    def make_foreign(self, daemon: Daemon) -> str:
        status, made = self.engine.call("POST", "/containers/create?name=orch-" + "q" * 20, {
            "Image": "orch-test", "Entrypoint": ["/bin/sleep", "1000"], "Labels": {"io.orchd.instance": "somebody-else",
                                                                                 "io.orchd.orchestrator": "conformance"}})
        assert status == 201, made
        status, _ = self.engine.call("POST", f"/containers/{made['Id']}/start")
        assert status == 204
        return str(made["Id"])

    def has_foreign(self, name: str) -> bool:
        _, seen = self.engine.call("GET", f"/containers/{name}/json")
        self.engine.call("DELETE", f"/containers/{name}?force=1")
        return bool(seen["State"]["Running"])

    def settings(self, shared: Path) -> dict[str, Any]:
        return {"mounts": [f"{shared}:{shared}"]}


FLAVOR = LocalDocker()
