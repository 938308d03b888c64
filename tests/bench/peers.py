"""The same workloads for others: ninja, GNU make and GNU parallel, which promise nothing durable, and libraries of Python."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

Peer = Callable[[int], float]  # seconds for n steps


def timed(command: list[str], place: Path) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place)
    took = time.perf_counter() - begin
    shutil.rmtree(place)
    return took


def ninja(folder: Path, workload: str, jobs: int) -> Peer:
    files, chain = workload.startswith("files"), workload.endswith("chain")

    def run(n: int) -> float:
        place = Path(tempfile.mkdtemp(dir=folder))
        with (place / "build.ninja").open("w") as out:
            out.write("rule r\n command = " + ("cat $in > $out" if files else "/bin/true") + "\n")
            out.write("rule first\n command = echo 0123456789abcdef > $out\n")
            for i in range(n):
                upstream = f"c{i - 1}" if chain else "c0"
                needs = upstream if i and (files or chain) else ""
                out.write(f"build c{i}: {'first' if files and i == 0 else 'r'} {needs}\n")
            out.write("build all: phony " + " ".join(f"c{i}" for i in range(n)) + "\ndefault all\n")
        return timed(["ninja", f"-j{jobs}", "--quiet"], place)

    return run


def make(folder: Path, workload: str, jobs: int) -> Peer:
    chain = workload.endswith("chain")

    def run(n: int) -> float:
        place = Path(tempfile.mkdtemp(dir=folder))
        with (place / "Makefile").open("w") as out:
            every = " ".join(f"c{i}" for i in range(n))
            out.write(f".PHONY: all {every}\nall: {every}\n")
            for i in range(n):
                out.write(f"c{i}:{f' c{i - 1}' if chain and i else ''}\n\t@/bin/true\n")
        return timed(["make", f"-j{jobs}", "-s"], place)

    return run


def parallel(folder: Path, jobs: int) -> Peer:
    def run(n: int) -> float:
        place = Path(tempfile.mkdtemp(dir=folder))
        (place / "commands").write_text("/bin/true\n" * n)
        return timed(["parallel", f"-j{jobs}", "-a", "commands"], place)

    return run


PYTHON = os.environ.get("ORCH_BENCH_PYTHON", sys.executable)  # one that may have the libraries


def python(folder: Path, library: str, workload: str) -> Peer:
    program = str(Path(__file__).with_name("python_peers.py"))

    def run(n: int) -> float:
        few = min(n, 200)  # they take their time
        with tempfile.TemporaryDirectory(dir=folder) as place:
            done = subprocess.run([PYTHON, program, library, workload, str(few), place], check=True, capture_output=True, text=True)
        return float(done.stdout) * n / few

    return run


def has(library: str) -> bool:
    return subprocess.run([PYTHON, "-c", f"import {library}"], capture_output=True).returncode == 0


def of(folder: Path, workload: str) -> dict[str, Peer]:
    """Those that are installed and can do the workload, by their names in the table."""
    out: dict[str, Peer] = {}
    if shutil.which("ninja"):
        jobs = (8,) if workload.startswith("files") else (2, 8)
        out.update({f"ninja -j{j}": ninja(folder, workload, j) for j in jobs})
    if shutil.which("make") and not workload.startswith("files"):
        out["make -j2"] = make(folder, workload, 2)
    if shutil.which("parallel") and workload == "wide":
        out["parallel -j2"] = parallel(folder, 2)
    if not workload.startswith("files"):
        out.update({library: python(folder, library, workload) for library in ("dbos", "luigi") if has(library)})
    return out
