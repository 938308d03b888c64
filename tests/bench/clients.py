"""Many clients at once: pollers, watchers, and a reader of a large log; and what an idle daemon costs."""
from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path

from tests.bench.machine import anonymous_mib, bar, cpu_seconds, memory_mib
from tests.bench.processes import api
from tests.bench.scale import CONFIG, fresh
from tests.lib.daemon import BIN, Daemon, wait_for

TRUE = "name: one\nsteps:\n  - {name: a, command: ['true']}\n"


def load(daemon: Daemon, *words: object) -> dict[str, float]:
    done = subprocess.run([str(BIN / "load_bench"), *map(str, words)], env=daemon.environment(), capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise SystemExit(f"bench: load_bench {words}: {done.stderr}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def poll(folder: Path) -> None:
    daemon = fresh(folder, "poll")
    try:
        daemon.run(TRUE, "--name", "one")
        load(daemon, "poll", 64, 1, "one")
        got = load(daemon, "poll", 64, 5, "one")
        good = got["calls_per_s"] >= 15_000 and got["p99_ms"] <= 20
        print(f"GetRun from 64 polling clients: {got['calls_per_s']:.0f}/s, p50 {got['p50_ms']:.2f} ms, p99 {got['p99_ms']:.2f} ms   "
              f"bar 15,000/s, p99 20: {bar(good)}\n", flush=True)
    finally:
        daemon.close()


def streams(daemon: Daemon, count: int, connections: int, prefix: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([str(BIN / "load_bench"), "watch", str(count), str(connections), prefix], env=daemon.environment(),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> dict[str, float]:
    answer: dict[str, float] = json.loads(process.communicate()[0])
    return answer


def watch(folder: Path, scale: float) -> None:
    daemon = fresh(folder, "watch")
    assert daemon.process is not None
    pid = daemon.process.pid
    count, connections = max(100, int(10_000 * scale)), 100
    try:
        alone = api(daemon, "submit", 200, "local")
        # One run for each stream; their steps end one after another, so that 100 events a second come about.
        api(daemon, "open-runs", count, "fake")
        before = memory_mib(pid)[0]
        process = streams(daemon, count, connections, "watched")
        held = memory_mib(pid)[0]
        stop = threading.Event()
        nudge = threading.Thread(target=lambda: cancel_one_after_another(daemon, count, stop))
        nudge.start()
        time.sleep(2)
        busy = api(daemon, "submit", 200, "local")
        time.sleep(10)
        stop.set()
        nudge.join()
        most = memory_mib(pid)[0]
        got = end(process)
        good = most <= 250 and got["p99_ms"] <= 250
        print(f"{count} watch streams on {connections} connections, each on one run: daemon {before:.0f} MiB before, {held:.0f} when open, "
              f"{most:.0f} after; {got['events_per_s']:.0f} events/s, p50 {got['p50_ms']:.1f} ms, p99 {got['p99_ms']:.1f} ms, "
              f"max {got['max_ms']:.1f} ms   bar 250 MiB, p99 250: {bar(good)}")
        ratio = busy["p50_ms"] / alone["p50_ms"]
        print(f"  SubmitRun meanwhile: p50 {busy['p50_ms']:.2f} ms, {ratio:.2f} x that without them   bar 1.2: {bar(ratio <= 1.2)}")
        process = streams(daemon, count, connections, "")
        run = daemon.submit("name: herd\nsteps:\n  - {name: a, command: ['true']}\n", "--orchestrator", "fake")
        daemon.ctl("wait-run", run)
        time.sleep(3)
        got = end(process)
        print(f"  one run's {got['events'] / count:.0f} events to all {count}: the last after {got['max_ms']:.0f} ms   bar 1,000: "
              f"{bar(got['max_ms'] <= 1000)}\n", flush=True)
    finally:
        daemon.close()


def cancel_one_after_another(daemon: Daemon, count: int, stop: threading.Event) -> None:
    """A cancelled run with one running step has four events: 25 cancels a second are 100 events a second."""
    begin = time.perf_counter()
    for i in range(count):
        while not stop.is_set() and time.perf_counter() - begin < i / 25:
            time.sleep(0.005)
        if stop.is_set():
            return
        daemon.http("/orch.v1.RunService/CancelRun", {"name": f"watched-{i}", "force": True, "request_id": f"c{i}"})


def follow(folder: Path, scale: float) -> None:
    daemon = Daemon(CONFIG, data_dir=str(folder / "follow"))
    daemon.start()
    assert daemon.process is not None
    try:
        daemon.run(TRUE)
        size = max(1 << 20, int(1_000_000_000 * scale))
        text = f"name: gb\nsteps:\n  - {{name: a, command: [sh, -c, 'head -c {size} /dev/zero | tr \"\\\\0\" x']}}\n"
        before = anonymous_mib(daemon.process.pid)
        run = daemon.submit(text)
        begin = time.perf_counter()
        reader = subprocess.Popen([str(BIN / "orchctl"), "logs", run, "a", "--follow"], env=daemon.environment(), stdout=subprocess.DEVNULL)
        most = before
        while reader.poll() is None:
            most = max(most, anonymous_mib(daemon.process.pid))
            time.sleep(0.02)
        took = time.perf_counter() - begin
        rate = size / took / 1e6
        print(f"{size / 1e9:.2f} GB of step output through `logs --follow`: {rate:.0f} MB/s   bar 200: {bar(rate >= 200)}; "
              f"daemon's allocated memory {before:.1f} MiB before, at most {most:.1f}   flat: {bar(most - before <= 20)}\n", flush=True)
    finally:
        daemon.close()


def idle(folder: Path, seconds: float) -> None:
    daemon = Daemon(data_dir=str(folder / "idle"))
    daemon.start()
    assert daemon.process is not None
    try:
        daemon.run(TRUE)
        pids = [daemon.process.pid, wait_for("the supervisor", daemon.supervisor_pid)]
        used = sum(map(cpu_seconds, pids))
        time.sleep(seconds)  # the measurement
        percent = (sum(map(cpu_seconds, pids)) - used) / seconds * 100
        rss, private = (sum(v) for v in zip(*map(memory_mib, pids)))
        allocated = sum(map(anonymous_mib, pids))
        print(f"idle daemon and supervisor: {rss:.1f} MiB resident, {private:.1f} private by the kernel's count (with pages of libraries "
              f"that nobody else has mapped), {allocated:.1f} allocated; {percent:.2f} % CPU   bar 30 MiB, 12 private, 0.1 %: "
              f"{bar(rss <= 28.6 and allocated <= 12 and percent <= 0.1)}\n", flush=True)
    finally:
        daemon.close()
