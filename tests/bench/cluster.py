"""A fan-out on Slurm, one submission, beside the same array by sbatch alone, in turns. Needs root and Debian's slurmd."""
from __future__ import annotations

import subprocess
import time
import unittest
from datetime import datetime
from pathlib import Path

from tests.bench.machine import spread
from tests.lib.daemon import Daemon, wait_for
from tests.lib.slurm import PLUGIN, Cluster

TASKS, CPUS = 1000, 64


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def alone(cluster: Cluster, folder: Path, tasks: int) -> float:
    """Seconds until the last task of a plain array has written its file."""
    out = folder / f"plain-{time.monotonic_ns()}"
    out.mkdir()
    begin = time.perf_counter()
    cluster.run("sbatch", "--parsable", f"--array=0-{tasks - 1}", "--output=/dev/null", f"--wrap=echo 0 > {out}/$SLURM_ARRAY_TASK_ID")
    wait_for("the tasks", lambda: sum(1 for _ in out.iterdir()) == tasks, 1200, every=0.05)
    return time.perf_counter() - begin


def measure(folder: Path, rounds: int, share: float) -> None:
    tasks = max(10, int(TASKS * share))
    cluster = Cluster(cpus=CPUS)
    try:
        cluster.up()
    except unittest.SkipTest as skip:
        print(f"cluster: left out: {skip}")
        return
    daemon = Daemon(data_dir=str(folder / "cluster"))
    try:
        daemon.start()
        daemon.ctl("register-flavor", PLUGIN)
        daemon.ctl("register-orchestrator", "hpc", "--flavor", "slurm", "--config", f"slurm_conf={cluster.conf}")
        plain, ours, parts = [], [], []
        for number in range(rounds):
            plain.append(alone(cluster, folder, tasks))
            file = daemon.file(f"name: wide\nsteps:\n  - name: a\n    foreach: {{i: {list(range(tasks))}}}\n    command: ['true']\n")
            begin, began = time.perf_counter(), time.time()
            daemon.ctl("submit", file, "--name", f"wide-{number}", "--orchestrator", "hpc", "--no-cache", "--wait", timeout=1800)
            ours.append(time.perf_counter() - begin)
            steps = [s for s in daemon.steps(f"wide-{number}").values() if s.get("start_time")]
            jobs = cluster.run("squeue", "-h", "-t", "all", "-o", "%V %F %k").splitlines()
            submissions = {line.split()[1] for line in jobs if f"run=wide-{number} " in line}
            parts.append((min(seconds_of(s["start_time"]) for s in steps) - began, max(seconds_of(s["start_time"]) for s in steps) - began,
                          max(seconds_of(s["end_time"]) for s in steps) - began, len(submissions)))
        print(f"a fan-out of {tasks} steps of `true` on Slurm, {CPUS} CPUs claimed, s: orchd {spread(ours)}; one sbatch --array of the same {spread(plain)}")
        for first, last, end, submissions in parts:
            print(f"  {submissions} submission(s); first step begins after {first:.2f} s, the last after {last:.2f} s, the last has ended after {end:.2f} s")
        usage = subprocess.run(["ps", "-o", "cputime=", "-p", (daemon.data / "plugins/hpc/run/pid").read_text().split()[0]], capture_output=True, text=True)
        print(f"  CPU time of the plug-in in all rounds: {usage.stdout.strip()}\n", flush=True)
    finally:
        daemon.close()
        cluster.down()
