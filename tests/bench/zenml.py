"""ZenML pipelines on orchd beside ZenML's own `local` orchestrator, in turns, in one client process. Needs the virtual
environment that `tests/run zenml` makes."""
from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections import defaultdict
from pathlib import Path

from tests.bench.machine import bar, spread
from tests.lib.daemon import BIN, ROOT

NAMES = {"worker": "orchd, a fork for each step", "shared": "orchd, processes that steps share", "local": "ZenML's local"}
# The share of local's time that is aimed at, a one-step pipeline's time taken off both.
BARS = {"wide": ("50 independent steps", 0.6), "chain": ("a chain of 50 steps", 1.0), "diamond": ("two branches of 2 s", 0.6)}


def measure(rounds: int) -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    made = sorted(cache.glob("orchd-tests/zenml-0.98-*/ready"), key=lambda ready: ready.stat().st_mtime)
    if not made:
        print("zenml: not here; `tests/run zenml` installs it\n", flush=True)
        return
    python = made[-1].parent / "bin/python"
    environment = dict(os.environ, ORCHD_BIN=str(BIN / "orchd"), PATH=f"{BIN}:{os.environ['PATH']}",
                       PYTHONPATH=str(ROOT / "client/python/src"))
    done = subprocess.run([str(python), "-W", "ignore", "figures.py", str(rounds)], cwd=ROOT / "tests/zenml", env=environment,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise SystemExit(f"bench: zenml: {done.stderr[-2000:]}")
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            one = json.loads(line)
            took[one["what"], one["on"]].append(one["seconds"])
    starts = {on: statistics.median(took["single", on]) for on in NAMES}
    print("ZenML 0.98, seconds in one client")
    for on, name in NAMES.items():
        print(f"  one step, {name}: {spread(took['single', on])}")
    for what, (text, most) in BARS.items():
        beyond = {on: [seconds - starts[on] for seconds in took[what, on]] for on in NAMES}
        local = statistics.median(beyond["local"])
        print(f"  {text} beyond that, {NAMES['local']}: {spread(beyond['local'])}")
        for on in ("worker", "shared"):
            share = statistics.median(beyond[on]) / local
            print(f"    {NAMES[on]}: {spread(beyond[on])}: {share:.2f} x   bar {most}: {bar(share <= most)}")
        if what == "wide":
            print(f"    half of them in each of two processes at once, on ZenML's local: {spread(took['halves', 'local'])}: "
                  f"{statistics.median(took['halves', 'local']) / local:.2f} x")
    print(flush=True)
