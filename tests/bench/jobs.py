"""Steps on a real Kubernetes of one node with simulated ones beside it, and beside the same Jobs by curl alone. Needs root and go."""
from __future__ import annotations

import json
import re
import ssl
import statistics
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.bench.machine import anonymous_mib, cpu_seconds, spread
from tests.lib.certificates import Authority, flags
from tests.lib.daemon import BIN, Daemon, wait_for
from tests.lib.kubernetes import IMAGE, Cluster

STEPS, CHAIN = 100, 12
SIMULATED = {"node_selector": {"type": "simulated"}, "tolerations": [{"key": "simulated", "operator": "Exists"}],
             "annotations": {"simulated/hold": "true"}}


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(re.sub(r"\.(\d{1,6})\d*", lambda m: "." + m[1].ljust(6, "0"), text.replace("Z", "+00:00"))).timestamp()


class Watcher:
    """When somebody beside the daemon was first told of each Job, and of the end of its container."""

    def __init__(self, cluster: Cluster) -> None:
        self.seen: dict[str, tuple[float, dict[str, Any]]] = {}
        self.ended: dict[str, float] = {}
        self.cluster = cluster
        for path, take in (("apis/batch/v1/namespaces/orchd/jobs", self.job), ("api/v1/namespaces/orchd/pods", self.pod)):
            threading.Thread(target=self.follow, args=(self.open(path), take), daemon=True).start()

    def open(self, path: str) -> Any:
        token = re.search(r"token: ([^}]+)", self.cluster.kubeconfig.read_text())
        assert token
        request = urllib.request.Request(f"{self.cluster.server}/{path}?watch=1", headers={"Authorization": "Bearer " + token[1]})
        context = ssl.create_default_context(cafile=str(self.cluster.folder / "pki/ca.crt"))
        return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)).open(request)

    def follow(self, stream: Any, take: Callable[[float, bytes], None]) -> None:
        for line in stream:
            take(time.time(), line)

    def job(self, now: float, line: bytes) -> None:
        if line.startswith(b'{"type":"ADDED"'):
            job = json.loads(line)["object"]["metadata"]
            self.seen[job["name"]] = (now, job.get("annotations", {}))

    def pod(self, now: float, line: bytes) -> None:
        pod = json.loads(line)["object"]
        if any("terminated" in container["state"] for container in pod["status"].get("containerStatuses", [])):
            self.ended.setdefault(pod["metadata"]["labels"].get("job-name", ""), now)


def by_curl(cluster: Cluster, folder: Path, jobs: list[dict[str, Any]], at_once: int) -> tuple[float, list[float]] | None:
    """Seconds until all of these are accepted over one connection, so many at a time, and what each took; None: curl did not end."""
    text = cluster.kubeconfig.read_text()
    token = re.search(r"token: ([^}]+)", text)
    assert token
    parts = []
    for number, job in enumerate(jobs):
        (folder / f"{number}.json").write_text(json.dumps(job))
        parts.append("\n".join([f'url = "{cluster.server}/apis/batch/v1/namespaces/orchd/jobs"', f'cacert = "{cluster.folder}/pki/ca.crt"', "http2",
                                'header = "Content-Type: application/json"', f'header = "Authorization: Bearer {token[1]}"', 'noproxy = "*"',
                                f'data-binary = "@{folder}/{number}.json"', 'output = "/dev/null"', 'write-out = "%{http_code} %{time_total}\\n"']))
    (folder / "curl").write_text("\nnext\n".join(parts))
    more = ["-Z", "--parallel-max", str(at_once)] if at_once > 1 else []
    begin = time.perf_counter()
    try:
        done = subprocess.run(["curl", "-sS", *more, "-K", str(folder / "curl")], capture_output=True, text=True, check=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    took = time.perf_counter() - begin
    answers = [line.split() for line in done.stdout.splitlines()]
    assert len(answers) == len(jobs) and all(code == "201" for code, _ in answers), done.stdout[:500] + done.stderr[:500]
    return took, [float(seconds) for _, seconds in answers]


def rate_of_curl(cluster: Cluster, folder: Path, steps: int) -> float:
    """Jobs a second by curl alone, 64 at a time."""
    while True:
        clear(cluster)
        if made := by_curl(cluster, folder, [plain_job(i, True) for i in range(steps)], 64):
            return steps / made[0]
        # Many requests on one connection: curl 7.88 loses it at times, and turns round for ever.
        print("  (curl did not end within a minute; once more)", flush=True)


def clear(cluster: Cluster) -> None:
    for kind in ("jobs", "secrets"):
        cluster.kubectl("-n", "orchd", "delete", kind, "--all")
    wait_for("no pods", lambda: not cluster.list("pods"), 300, every=0.5)


class Bench:
    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        authority = Authority(folder)
        pair = authority.sign("daemon", f"IP:{cluster.here}")
        address = f"{cluster.here}:17434"
        self.daemon = Daemon("grace: 1s\n", data_dir=str(folder / "data"), ca=authority.certificate,
                             flags=[*flags(pair), "--http-listen", address, "--step-endpoint", f"https://{address}", "--step-ca", str(authority.certificate)])
        self.daemon.start()
        config = {"kubeconfig": str(cluster.kubeconfig), "image": IMAGE, "launcher_image": IMAGE, "pull": "missing", "cpu_request_percent": 1}
        # A simulated node's logs have no end, so few of them are followed.
        for name, more in (("k8s", {}), ("simulated", {"logs_at_once": 1})):
            file = self.daemon.file(json.dumps({**config, **more}), f"{name}.json")
            self.daemon.ctl("register-orchestrator", name, "--flavor", "kubernetes", "--config-file", file)
        self.watcher = Watcher(cluster)

    def events(self, run: str) -> dict[tuple[str, str], float]:
        """When each of its steps came to each of its states."""
        events = self.daemon.json("list-events", run, "--all")["events"]
        return {(e["step"], e["step_state"]): seconds_of(e["time"]) for e in events if e.get("type") == "STEP_STATE_CHANGED"}

    def jobs(self, run: str) -> dict[str, float]:
        return {said["orchd.io/step"]: at for at, said in list(self.watcher.seen.values()) if said.get("orchd.io/run") == run}

    def chain(self, steps: int) -> tuple[list[float], list[float], list[float]]:
        """Milliseconds from a step's being ready to the Job's being told to others, and to QUEUED; from the container's end, as told to others, to SUCCEEDED."""
        run = f"chain-{time.monotonic_ns()}"
        spec = {"name": "chain", "steps": [{"name": f"a{i}", "command": ["true"], **({"after": [f"a{i - 1}"]} if i else {})} for i in range(steps)]}
        self.daemon.ctl("submit", self.daemon.file(json.dumps(spec)), "--name", run, "--orchestrator", "k8s", "--no-cache", "--wait", timeout=600)
        when, jobs = self.events(run), self.jobs(run)
        names = [f"a{i}" for i in range(1, steps)]
        ready = {n: when[n, "READY"] if (n, "READY") in when else when[n, "SUBMITTING"] for n in names}
        job_of = {said["orchd.io/step"]: job for job, (_, said) in list(self.watcher.seen.items()) if said.get("orchd.io/run") == run}
        wait_for("the watcher to know of all ends", lambda: all(job in self.watcher.ended for job in job_of.values()), 30)
        return ([(jobs[n] - ready[n]) * 1e3 for n in names], [(when[n, "QUEUED"] - ready[n]) * 1e3 for n in names if (n, "QUEUED") in when],
                [(when[n, "SUCCEEDED"] - self.watcher.ended[job_of[n]]) * 1e3 for n in names])

    def fan_out(self, steps: int) -> tuple[float, float]:
        """Seconds from the first SUBMITTING to the last QUEUED; of the daemon's CPU."""
        run = f"wide-{time.monotonic_ns()}"
        spec = {"name": "wide", "steps": [{"name": "a", "foreach": {"i": list(range(steps))}, "command": ["true"], "settings": {"kubernetes": SIMULATED}}]}
        assert self.daemon.process is not None
        cpu = cpu_seconds(self.daemon.process.pid)
        self.daemon.ctl("submit", self.daemon.file(json.dumps(spec)), "--name", run, "--orchestrator", "simulated", "--no-cache")
        wait_for("all to be QUEUED", lambda: sum(1 for (_, state) in self.events(run) if state == "QUEUED") == steps, 300, every=1)
        when = self.events(run)
        begin = min(at for (_, state), at in when.items() if state == "SUBMITTING")
        cpu = cpu_seconds(self.daemon.process.pid) - cpu
        self.daemon.ctl("cancel-run", run)
        return max(at for (_, state), at in when.items() if state == "QUEUED") - begin, cpu


def plain_job(number: int, launcher: bool) -> dict[str, Any]:
    """As a step's Job is, without what only a daemon has to say."""
    settings = {"metadata": {"annotations": SIMULATED["annotations"]}}
    container = {"name": "main", "image": IMAGE, "command": ["true"], "volumeMounts": [{"name": "work", "mountPath": "/work"}]}
    more = {"initContainers": [{**container, "name": "launcher"}]} if launcher else {}
    spec = {"restartPolicy": "Never", "nodeSelector": SIMULATED["node_selector"], "tolerations": SIMULATED["tolerations"],
            "volumes": [{"name": "work", "emptyDir": {}}], "containers": [container], **more}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"plain-{time.monotonic_ns()}-{number}"},
            "spec": {"backoffLimit": 0, "template": {**settings, "spec": spec}}}


def measure(folder: Path, rounds: int, share: float) -> None:
    steps, chain = max(10, int(STEPS * share)), max(3, int(CHAIN * share))
    cluster = Cluster(launcher=BIN / "orch-launch", simulated=2)
    try:
        cluster.up()
    except unittest.SkipTest as skip:
        print(f"kubernetes: left out: {skip}")
        return
    here = Path(tempfile.mkdtemp(dir=folder))
    bench = Bench(cluster, here)
    try:
        told, queued, ended = bench.chain(chain)
        print(f"a chain of {chain} steps on the real node, ms from READY: its Job told to a watcher beside {spread(told, 1)}; "
              f"QUEUED committed {spread(queued, 1)}; from its container's end told to that watcher to SUCCEEDED {spread(ended, 1)}", flush=True)
        clear(cluster)
        one = by_curl(cluster, here, [plain_job(i, True) for i in range(steps)], 1)
        assert one is not None
        print(f"  a plain Job by curl, one after the other over one connection, ms: {spread([s * 1e3 for s in one[1][1:]], 1)}", flush=True)
        ours, plain, cpus = [], [], []
        for _ in range(rounds):
            plain.append(rate_of_curl(cluster, here, steps))
            clear(cluster)
            last, cpu = bench.fan_out(steps)
            ours.append(steps / last)
            cpus.append(cpu / steps * 1e3)
        print(f"a fan-out of {steps} on simulated nodes, Jobs/s: orchd to QUEUED {spread(ours, 0)} "
              f"({statistics.median(cpus):.1f} ms of its CPU each); by curl alone, 64 at a time {spread(plain, 0)}", flush=True)
        assert bench.daemon.process is not None
        print(f"  the daemon then has {anonymous_mib(bench.daemon.process.pid):.1f} MiB\n", flush=True)
    finally:
        bench.daemon.close()
        cluster.down()
