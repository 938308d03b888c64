"""Local steps beside the peers, in turns."""
from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from pathlib import Path

from tests.bench import peers
from tests.bench.machine import bar, spread
from tests.lib.daemon import BIN, Daemon


def api(daemon: Daemon, workload: str, n: int, orchestrator: str) -> dict[str, float]:
    done = subprocess.run([str(BIN / "api_bench"), workload, str(n), orchestrator], env=daemon.environment(),
                          capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        raise SystemExit(f"bench: {workload}: {done.stderr}")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def database_syncs(daemon: Daemon) -> float:
    time.sleep(0.5)  # the figures are published five times a second
    text = daemon.http("/metrics")[1].decode()
    found = re.search(r"^orchd_syncs_total ([\d.e+]+)", text, re.M)
    assert found is not None, text[:2000]
    return float(found[1])


_SYNCS = ("fsync", "fdatasync", "sync_file_range", "sync", "syncfs", "msync")


def syncs_in_all(daemon: Daemon, workload: str, n: int, orchestrator: str) -> float | None:
    """Such calls of the daemon and its supervisor for each step, as the kernel counts them, which costs nothing that can be
    measured; strace, which slows all else, would keep fewer steps together. None: it cannot be asked (perf is not here, or may not)."""
    assert daemon.process is not None
    pids = ",".join(str(p) for p in (daemon.process.pid, daemon.supervisor_pid()) if p)
    count = ["perf", "stat", "-x", ";", "-p", pids, "-e", ",".join(f"syscalls:sys_enter_{name}" for name in _SYNCS)]
    try:
        subprocess.run([*count, "true"], capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    command = [BIN / "api_bench", workload, str(n), orchestrator]
    done = subprocess.run([*count, *map(str, command)], capture_output=True, text=True, env=daemon.environment(), check=True)
    return sum(float(line.split(";")[0]) for line in done.stderr.splitlines() if ";" in line) / n


ORCHESTRATOR = "many"  # 32 slots: what is short shares a sync with more of its like

BARS = {  # workload: (title, n, orchd's own bar in ms a step, bars of ratios)
    "chain": ("chain of /bin/true", 1000, 1.0, {"ninja": 0.8, "make": 1.7}),
    "wide": ("independent /bin/true", 3000, 0.5, {"ninja": 0.7, "make": 1.4}),
    "files-chain": ("chain, a file along each edge", 2000, None, {"ninja": 1.0}),
    "files-wide": ("wide, a file along each edge", 2000, None, {"ninja": 1.0}),
}


def measure(daemon: Daemon, folder: Path, rounds: int, scale: float) -> None:
    for workload, (title, size, own, ratios) in BARS.items():
        n = max(10, int(size * scale))
        ours: list[float] = []
        theirs: dict[str, list[float]] = {}
        others = peers.of(folder, workload)
        for _ in range(rounds):
            ours.append(api(daemon, workload, n, ORCHESTRATOR)["ms_per_step"])
            for name, run in others.items():
                theirs.setdefault(name, []).append(run(n) * 1000 / n)
        middle = statistics.median(ours)
        print(f"{title}, n={n}: ms a step, min / median / max")
        verdict = f"   bar {own}: {bar(middle <= own)}" if own else ""
        print(f"  {'orchd':<13}{spread(ours)}   ({1000 / middle:.0f} steps/s){verdict}")
        best: dict[str, float] = {}
        for name, values in theirs.items():
            tool = name.split()[0]
            best[tool] = min(best.get(tool, 1e9), statistics.median(values))
            print(f"  {name:<13}{spread(values)}   orchd / it: {middle / statistics.median(values):.2f}")
        for tool, most in ratios.items():
            if tool in best:
                print(f"  orchd / {tool} at its best: {middle / best[tool]:.2f}   bar {most}: {bar(middle / best[tool] <= most)}")
        print(flush=True)
    for workload, most in (("chain", 1.05), ("wide", 0.1)):
        n = max(10, int(BARS[workload][1] * scale))
        before = database_syncs(daemon)
        api(daemon, workload, n, ORCHESTRATOR)
        counted = (database_syncs(daemon) - before) / n
        in_all = syncs_in_all(daemon, workload, n, ORCHESTRATOR)
        print(f"syncs a step, {workload}: {counted:.3f} of the database by its own count"
              + (f", {in_all:.3f} in all by the kernel's" if in_all is not None else "")
              + f"   bar {most}: {bar(max(counted, in_all or 0) <= most)}", flush=True)
    print()
