"""Steps as containers beside the same containers made by curl on the engine's API, in turns. Needs root and Debian's docker.io."""
from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
import unittest
from datetime import datetime
from pathlib import Path
from typing import Any, Iterator

from tests.bench.machine import bar, spread
from tests.bench.processes import api
from tests.lib.daemon import BIN, Daemon, wait_for
from tests.lib.engine import Engine

API = "http://docker/v1.41/containers"
SERIAL, WIDE, WATCHED = 30, 200, 50  # containers in a round
AT_ONCE = 8


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


class Curl:
    """One curl for each container, and all five calls over one connection: create, start, wait, logs, remove."""

    def __init__(self, engine: Engine, place: Path, body: dict[str, Any]) -> None:
        self.engine, self.place, self.body = engine, place, place / "body.json"
        place.mkdir()
        self.body.write_text(json.dumps(body))
        self.round = 0

    def __call__(self, n: int, jobs: int) -> float:
        """Seconds until the last of n containers is removed, so many at a time."""
        self.round += 1
        name = f"{self.place.name}-{self.round}-{{}}"
        calls = [["-X", "POST", "-H", "Content-Type: application/json", "-d", f"@{self.body}", f"{API}/create?name={name}"],
                 ["-X", "POST", "-d", "", f"{API}/{name}/start"], ["-X", "POST", "-d", "", f"{API}/{name}/wait"],
                 [f"{API}/{name}/logs?stdout=1&stderr=1"], ["-X", "DELETE", f"{API}/{name}?v=1"]]
        words = ["curl"]
        for call in calls:
            words += [*(["--next"] if len(words) > 1 else []), "-sSf", "--unix-socket", str(self.engine.socket), *call]
        begin = time.perf_counter()
        done = subprocess.run(["xargs", f"-P{jobs}", "-I{}", *words], input="".join(f"{i}\n" for i in range(n)), text=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        took = time.perf_counter() - begin
        if done.returncode != 0:
            raise SystemExit(f"bench: curl: {done.stderr[-500:]}")
        return took


class Steps:
    def __init__(self, daemon: Daemon, engine: Engine, others: int) -> None:
        self.daemon, self.engine, self.others = daemon, engine, others

    def __call__(self, n: int, jobs: int) -> float:
        """Seconds from the submission until the last of n steps has ended and its container is removed."""
        took = api(self.daemon, "chain" if jobs == 1 else "wide", n, "docker")["seconds"]
        begin = time.perf_counter()
        wait_for("the containers to be removed", lambda: len(self.engine.containers()) <= self.others, every=0.002)
        return took + time.perf_counter() - begin


def step_container(daemon: Daemon, engine: Engine) -> dict[str, Any]:
    """What an engine is asked to create for a step of /bin/true. The step that is looked at sleeps meanwhile: its folders are those of all."""
    daemon.submit("name: held\nsteps:\n  - {name: held, command: [sleep, '100000'], resources: {cpu: 1}}\n", "--orchestrator", "docker")
    held = wait_for("the step to run", lambda: [c for c in engine.containers() if c["State"] == "running"])[0]
    config = engine.call("GET", f"/containers/{held['Id']}/json")[1]
    said = config["Config"]
    body = {name: said[name] for name in ("Image", "Env", "WorkingDir", "User", "StopSignal")}
    assert said["Entrypoint"][-2:] == ["sleep", "100000"], said
    labels = {f"bench.{name}": value for name, value in said["Labels"].items()}  # none of the daemon's own
    return {**body, "Entrypoint": said["Entrypoint"][:-2] + ["/bin/true"], "Labels": labels, "HostConfig": config["HostConfig"]}


class Lines:
    """The lines of a program that follows something, each with the time when it came."""

    def __init__(self, command: list[str], **more: Any) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)
        self.got: list[tuple[float, dict[str, Any]]] = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.got.append((time.time(), json.loads(line)))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def ends(daemon: Daemon, engine: Engine, n: int) -> Iterator[tuple[float, float | None]]:
    """Of each step of a chain, in ms until a watcher has been told that it has ended: from the engine's event of its container's end, and
    from the container's end by the engine's clock, which the daemon records for those that fail: every other one does."""
    filters = '{"type":["container"],"event":["die"]}'
    events = Lines(["curl", "-sSfN", "--get", "--unix-socket", str(engine.socket), "--data-urlencode", f"filters={filters}",
                    "http://docker/v1.41/events"])
    watcher = Lines([str(BIN / "orchctl"), "watch-runs", "-o", "json"], env=daemon.environment())
    try:
        api(daemon, "chain", 1, "docker")  # until both have begun
        wait_for("both to follow", lambda: events.got and watcher.got)
        run = f"ends-{time.time_ns()}"
        steps = [{"name": f"s{i}", "command": [f"/bin/{'false' if i % 2 else 'true'}"], "resources": {"cpu": 1}, "trigger_rule": "all_done",
                  **({"after": [f"s{i - 1}"]} if i else {})} for i in range(n)]
        daemon.submit(json.dumps({"name": "ends", "execution_mode": "continue_on_failure", "steps": steps}), "--orchestrator", "docker", "--name", run)
        daemon.ctl("wait-run", run, "--timeout", "1800s", timeout=1900, code=1)
        told = wait_for("the watcher to hear of it", lambda: told_of(watcher, run, n))
        died = {e["Actor"]["Attributes"].get("io.orchd.step"): e["timeNano"] / 1e9 for _, e in events.got
                if e["Actor"]["Attributes"].get("io.orchd.run") == run}
        for name, came in told.items():
            attempt = daemon.json("get-step", run, name)["attempts"][0]
            yield (came - died[name]) * 1000, (came - seconds(attempt["end_time"])) * 1000 if attempt["exit_code"] else None
    finally:
        events.close()
        watcher.close()


def logs(engine: Engine, body: dict[str, Any], n: int) -> Iterator[float]:
    """Of each of n containers, one after another, in ms: from the engine's event of its end until the engine has given its log to one who
    asks at once. Nobody knows the whole of it before; an engine keeps a container to itself while it cleans up behind it."""
    events = Lines(["curl", "-sSfN", "--get", "--unix-socket", str(engine.socket), "--data-urlencode", 'filters={"event":["die"]}',
                    "http://docker/v1.41/events"])
    try:
        for _ in range(n):
            container = engine.call("POST", "/containers/create", body)[1]["Id"]
            engine.call("POST", f"/containers/{container}/start")
            died = wait_for("its end", lambda: [e["timeNano"] / 1e9 for _, e in events.got if e["Actor"]["ID"] == container], every=0.0005)[0]
            engine.call("GET", f"/containers/{container}/logs?stdout=1&stderr=1")
            yield (time.time() - died) * 1000
            engine.call("DELETE", f"/containers/{container}?v=1")
    finally:
        events.close()


def told_of(watcher: Lines, run: str, n: int) -> dict[str, float]:
    """When the end of each step of the run was told; empty if some are missing."""
    told = {}
    for came, message in list(watcher.got):
        event = message.get("event", {})
        if event.get("run") == run and event.get("step_state") in ("SUCCEEDED", "FAILED"):
            told[event["step"]] = came
    return told if len(told) == n else {}


def seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def measure(folder: Path, rounds: int, scale: float) -> None:
    engine = Engine()
    try:
        engine.up()
    except unittest.SkipTest as reason:
        print(f"containers: not measured: {reason}\n", flush=True)
        return
    daemon = Daemon(data_dir=str(folder / "docker"))
    try:
        daemon.start()
        daemon.ctl("register-orchestrator", "docker", "--flavor", "local_docker", "--config", f"host={engine.address}", "--config",
                   "image=orch-test", "--config", "network=none", "--config", "pull=never", "--config", f"cpus={AT_ONCE + 1}")
        body = step_container(daemon, engine)
        same = Curl(engine, folder / "same", body)
        bare = Curl(engine, folder / "bare", {"Image": "orch-test", "Entrypoint": ["/bin/true"], "HostConfig": {"NetworkMode": "none"}})
        steps = Steps(daemon, engine, others=1)
        version = engine.call("GET", "/version")[1]
        print(f"containers of Docker {version['Version']}, network none, image of busybox; peers: curl over the engine's socket, one a container, "
              "its five calls over one connection", flush=True)
        for title, size, jobs, most in (("one after another", SERIAL, 1, 1.1), (f"{AT_ONCE} at a time", WIDE, AT_ONCE, 1.0)):
            n = max(5, int(size * scale))
            took: dict[str, list[float]] = {"steps": [], "curl, same container": [], "curl, bare container": []}
            for _ in range(rounds):
                for name, run in zip(took, (steps, same, bare)):
                    took[name].append(run(n, jobs) * 1000 / n)
            middle = {name: statistics.median(values) for name, values in took.items()}
            print(f"{n} containers of /bin/true, {title}: ms each until the last is removed, min / median / max")
            for name, values in took.items():
                ratio = middle["steps"] / middle[name]
                note = "" if name == "steps" else f"   steps / it: {ratio:.2f}"
                note += f"   bar {most}: {bar(ratio <= most)}" if name == "curl, same container" else ""
                print(f"  {name:<22}{spread(values, 1)}{note}", flush=True)
        values: list[tuple[float, float | None]] = []
        given: list[float] = []
        for _ in range(rounds):
            values += ends(daemon, engine, max(5, int(WATCHED * scale)))
            given += logs(engine, body, max(5, int(WATCHED * scale)))
        print(f"end of a container → step ended, {len(values)} steps of chains: ms, p50 / p90 / p99")
        for i, name in enumerate(("its event of the end → a watcher is told", "the engine's FinishedAt → a watcher is told")):
            column = [value[i] for value in values if value[i] is not None]
            p50 = statistics.median(column)
            print(f"  {name:<44}{p50:.1f} / {quantile(column, 0.9):.1f} / {quantile(column, 0.99):.1f}   bar 20: {bar(p50 <= 20)}")
        print(f"  {'its event of the end → it gives the log':<44}{statistics.median(given):.1f} / {quantile(given, 0.9):.1f} / {quantile(given, 0.99):.1f}"
              "   by itself, with nobody in between")
        print(flush=True)
    finally:
        daemon.close()
        engine.down()
