"""Runs of many steps, many runs, and restarts: on the flavor `fake`, which starts no process."""
from __future__ import annotations

import http.client
import json
import shutil
import signal
import statistics
import subprocess
import time
from datetime import datetime
from pathlib import Path

from tests.bench.machine import bar, peak_mib, spread
from tests.bench.processes import api
from tests.lib.daemon import BIN, Daemon, wait_for

CONFIG = "flavors: {fake: true}\n"


def fresh(folder: Path, name: str) -> Daemon:
    daemon = Daemon(CONFIG, data_dir=str(folder / name))
    daemon.start()
    daemon.ctl("register-orchestrator", "fake", "--flavor", "fake")
    return daemon


def steps(folder: Path, rounds: int, scale: float, huge: bool) -> None:
    daemon = fresh(folder, "steps")
    assert daemon.process is not None
    try:
        print("no process (flavor fake), durable: ms a step, min / median / max")
        base: dict[str, float] = {}
        sizes = [1000, 10_000, 100_000] + ([1_000_000] if huge else [])
        for workload in ("chain", "wide"):
            for size in sizes:
                n = max(10, int(size * scale))
                values = [api(daemon, workload, n, "fake") for _ in range(rounds if size < 100_000 else 1)]
                each = [v["ms_per_step"] for v in values]
                middle = statistics.median(each)
                base.setdefault(workload, middle)
                note = ""
                if workload == "chain" and size == 1000:
                    note = f"   bar 0.25: {bar(middle <= 0.25)}"
                if workload == "wide" and size == 100_000:
                    # SUBMITTING, RUNNING and SUCCEEDED of each step, from the call to the end of the run.
                    note = f"   {3000 / middle:.0f} transitions/s, bar 100,000: {bar(3000 / middle >= 100_000)}"
                if size == 1_000_000:
                    peak = peak_mib(daemon.process.pid)
                    note = (f"   {middle / base[workload]:.2f} x the cost in a run of 1,000, bar 1.3: {bar(middle <= 1.3 * base[workload])};"
                            f" largest memory so far {peak:.0f} MiB, bar 1,430 (1.5 GB): {bar(peak <= 1430)}")
                print(f"  {workload:<6} n={n:<8} {spread(each, 4)}   accepted in "
                      f"{spread([v['accepted_ms'] for v in values], 1)} ms{note}", flush=True)
        n = max(10, int(100_000 * scale))
        first = [api(daemon, "accept", n, "fake")["accepted_ms"] for _ in range(3)]
        print(f"a new DAG of {n} steps accepted in {spread(first, 0)} ms   bar 1,000: {bar(statistics.median(first) <= 1000)}")
        api(daemon, "cached", n, "fake")
        again = [api(daemon, "cached", n, "fake") for _ in range(3)]
        whole = [v["seconds"] * 1000 for v in again]
        after = [v["seconds"] * 1000 - v["accepted_ms"] for v in again]
        print(f"its cached re-run, to the end, in {spread(whole, 0)} ms, of which {spread(after, 0)} after it was accepted   "
              f"bar 1,000 after: {bar(statistics.median(after) <= 1000)}\n", flush=True)
    finally:
        daemon.close()


def questions(folder: Path, scale: float) -> None:
    daemon = fresh(folder, "questions")
    try:
        n = max(100, int(10_000 * scale))
        for workload in ("why", "plan", "plan-fan-out"):
            got = api(daemon, workload, n, "fake")
            print(f"{workload} in a run of {n} steps: p50 {got['p50_ms']:.2f} ms, max {got['max_ms']:.2f} ms   "
                  f"bar 10: {bar(got['p50_ms'] <= 10)}", flush=True)
        print()
    finally:
        daemon.close()


def latencies(folder: Path, scale: float) -> None:
    daemon = fresh(folder, "latencies")
    try:
        count = max(20, int(500 * scale))
        for workload, what, p50, p99 in (("submit", "SubmitRun acknowledged", 0.5, 3), ("first-step", "submit to first process started", 2, 10)):
            api(daemon, workload, 20, "local")
            got = api(daemon, workload, count, "local")
            good = got["p50_ms"] <= p50 and got["p99_ms"] <= p99
            print(f"{what}: p50 {got['p50_ms']:.2f} ms, p99 {got['p99_ms']:.2f} ms, max {got['max_ms']:.2f} ms   "
                  f"bar p50 {p50}, p99 {p99}: {bar(good)}", flush=True)
        print()
    finally:
        daemon.close()


def restart(folder: Path, scale: float) -> None:
    daemon = fresh(folder, "restart")
    try:
        n = max(10, int(100_000 * scale))
        text = (f"name: open\ndefaults: {{settings: {{fake: {{duration: 1h}}}}, resources: {{cpu: 0}}}}\nsteps:\n  - name: s\n"
                f"    foreach: {{i: {json.dumps(list(range(n)))}}}\n    command: ['true']\n")
        run = daemon.submit(text, "--orchestrator", "fake")
        wait_for("all steps to run", lambda: step_count(daemon, run, "RUNNING") == n, 120)
        took = []
        for _ in range(5):
            daemon.kill(signal.SIGKILL)
            begin = time.perf_counter()
            daemon.start()
            took.append((time.perf_counter() - begin) * 1000)
        print(f"kill -9 and start with {n} steps running, until it serves: {spread(took, 0)} ms   bar 1,000: "
              f"{bar(statistics.median(took) <= 1000)}\n", flush=True)
        daemon.kill(signal.SIGKILL)
    finally:
        daemon.close()


def fan_outs(folder: Path, scale: float) -> None:
    """Two lists, each within the limit of a value, make the instances at run time."""
    daemon = fresh(folder, "fan-outs")
    try:
        wide = max(10, int(400 * scale))
        text = (f"name: fan\nsteps:\n  - name: lists\n    orchestrator: local\n"
                f"    command: [python3, -c, 'import os; [open(os.environ[\"ORCH_OUTPUT_\" + k], \"w\").write(str(list(range(n)))) for k, n in [(\"XS\", {wide}), (\"YS\", 250)]]']\n"
                f"    outputs: {{xs: {{value: true}}, ys: {{value: true}}}}\n  - name: t\n    orchestrator: fake\n"
                f"    foreach: {{x: {{from: lists.xs}}, y: {{from: lists.ys}}}}\n    resources: {{cpu: 0}}\n    command: ['true']\n")
        made, whole = [], []
        for _ in range(3):
            run = daemon.submit(text)
            daemon.ctl("wait-run", run)
            ended = {name: when(daemon.json("get-step", run, name)["end_time"]) for name in ("lists", "t")}
            got = daemon.json("get-run", run)
            assert got["step_count"] == 250 * wide + 2, got["step_count"]
            made.append((ended["t"] - ended["lists"]) * 1000)
            whole.append((when(got["end_time"]) - ended["lists"]) * 1000)
        print(f"{250 * wide} instances made at run time, from the end of the step that makes the lists: {spread(made, 0)} ms   "
              f"bar 2,000: {bar(statistics.median(made) <= 2000)}; all of them run: {spread(whole, 0)} ms\n", flush=True)
    finally:
        daemon.close()


def when(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def step_count(daemon: Daemon, run: str, state: str) -> int:
    counts = daemon.json("get-run", run)["step_counts"]
    return int(counts.get(state, 0))


def lists(folder: Path, scale: float) -> None:
    data = folder / "lists"
    n = max(1000, int(1_000_000 * scale))
    subprocess.run([str(BIN / "store_bench"), "--fill", str(data), str(n)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    daemon = Daemon(CONFIG, data_dir=str(data))
    daemon.start()
    try:
        host = daemon.server["http"].removeprefix("http://")
        client = http.client.HTTPConnection(host)
        headers = {"Authorization": f"Bearer {daemon.token}", "Content-Type": "application/json"}
        worst = 0.0
        print(f"ListRuns, a page of 50 among {n} runs, over HTTP/JSON: ms, min / median / max of 20")
        deep = ""
        for title, filters in (("all", ""), ("state", "state=FAILED"), ("pipeline", "pipeline=p7"), ("orchestrator", "orchestrator=kube"),
                               ("label", "label.team=t42"), ("part of a name", "name:p7-"), ("rare part of a name", f"name:{1000000 + n // 2}"),
                               ("no such name", "name:nothing-like-it"), ("state and label", "state=FAILED AND label.team=t0"),
                               ("pipeline and state", "pipeline=p0 AND state=FAILED"), ("a deep page", "")):
            took = []
            body = {"page_size": 50, "filter": filters}
            if title == "a deep page":
                body["page_token"] = deep
            for _ in range(20):
                begin = time.perf_counter()
                client.request("POST", "/orch.v1.RunService/ListRuns", json.dumps(body), headers)
                answer = client.getresponse()
                page = json.loads(answer.read())
                took.append((time.perf_counter() - begin) * 1000)
                assert answer.status == 200, page
                if title == "all":
                    deep = page["next_page_token"]
                    body["page_token"] = deep  # twenty pages down
            worst = max(worst, statistics.median(took))
            print(f"  {title:<20} {spread(took, 1)}   ({len(page.get('runs', []))} runs)")
        print(f"  the slowest median: {worst:.1f} ms   bar 20: {bar(worst <= 20)}\n", flush=True)
    finally:
        daemon.close()
        shutil.rmtree(data, ignore_errors=True)
