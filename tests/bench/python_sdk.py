"""The Python SDK: its import, a pipeline of one step, a chain of steps beside chains of programs, and long lists as tables."""
from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.machine import bar, spread
from tests.lib.daemon import BIN, ROOT, Daemon

SOURCES = str(ROOT / "client/python/src")
STEPS = 100

# A user's file, as it is imported by the processes of its steps; `main` of this module runs it.
FLOW = '''
from orchd import pipeline, shell, step


@step(cache=False)
def plus(n: int) -> int:
    return n + 1


@pipeline
def one():
    return plus(0)


def chain_of(make):
    last = None
    for number in range(STEPS):
        last = make(number, last)
    return last


@pipeline
def python():
    return chain_of(lambda number, last: plus(number if last is None else last))


def program(*words):
    def make(number, last):
        call = shell(f"s{number}", words, cache=False)
        return call if last is None else call.after(last)

    return make


@pipeline
def true():
    chain_of(program("/bin/true"))


@pipeline
def bare():
    """The least that a process of Python costs."""
    chain_of(program(PYTHON, "-IS", "-c", "pass"))
'''


def import_ms(python: str) -> float:
    """Of the package and its client, over gRPC's own."""
    code = "import time, grpc; begin = time.perf_counter(); import orchd; orchd.Client, orchd.step, orchd.pipeline, orchd.get_run; print(time.perf_counter() - begin)"
    done = subprocess.run([python, "-c", code], env={**os.environ, "PYTHONPATH": SOURCES}, capture_output=True, text=True, check=True)
    return float(done.stdout) * 1000


def cpu_seconds(pids: list[int]) -> float:
    """Of these processes and all of their children that were waited for."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def workers_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"orchd._worker" in (entry / "cmdline").read_bytes() and os.readlink(entry / "cwd") == str(folder):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def measure(folder: Path, rounds: int, scale: float) -> None:
    python = os.environ.get("ORCH_BENCH_PYTHON", "/usr/bin/python3")
    took = [import_ms(python) for _ in range(max(3, rounds))]
    print(f"import orchd over gRPC's own import: ms, {spread(took, 1)}   bar 150: {bar(statistics.median(took) <= 150)}", flush=True)
    work = Path(os.path.realpath(folder)) / "flow"
    work.mkdir()
    (work / "flow.py").write_text(FLOW.replace("STEPS", str(STEPS)).replace("PYTHON", repr(python)))
    daemon = Daemon(data_dir=str(folder / "sdk"))
    daemon.start()
    try:
        ask(python, work, daemon, "steps", rounds)
    finally:
        daemon.close()
    filled = folder / "sdk-lists"
    count = max(1000, int(10_000 * scale))
    subprocess.run([str(BIN / "store_bench"), "--fill", str(filled), str(count)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    daemon = Daemon("flavors: {fake: true}\n", data_dir=str(filled))
    daemon.start()
    try:
        ask(python, work, daemon, "lists", rounds)
    finally:
        daemon.close()
        shutil.rmtree(filled, ignore_errors=True)
    print(flush=True)


def ask(python: str, work: Path, daemon: Daemon, what: str, rounds: int) -> None:
    """In a process of its own, as users do; it prints."""
    assert daemon.process is not None
    pids = [daemon.process.pid, daemon.supervisor_pid()]
    subprocess.run([python, "-m", "tests.bench.python_sdk", what, str(rounds), json.dumps(pids), str(work)], cwd=ROOT, check=True,
                   env=daemon.environment(PYTHONPATH=f"{SOURCES}:{work}"), timeout=1800)


def steps(rounds: int, pids: list[int], work: Path) -> None:
    import flow  # type: ignore[import-not-found]

    flow.one.options(progress=False)()  # the supervisor is there, and the connection open
    if not pids[1]:
        pids[1] = next(int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and of_parent(p, pids[0], b"orch-supervisor"))
    took = []
    for _ in range(max(10, 4 * rounds)):
        begin = time.perf_counter()
        flow.one.options(progress=False)().result()
        took.append((time.perf_counter() - begin) * 1000)
    print(f"a pipeline of one Python step, submit -> result: ms, {spread(took, 1)}   bar 150: {bar(statistics.median(took) <= 150)}")
    flow.python.options(progress=False)()  # while the worker starts
    chains = {"python": "Python steps, forks of a warm worker", "bare": "python3 -IS -c pass, as commands", "true": "/bin/true, as commands"}
    walls: dict[str, list[float]] = {name: [] for name in chains}
    cpus: dict[str, list[float]] = {name: [] for name in chains}
    for _ in range(rounds):
        for name in chains:
            processes = pids + workers_in(work)
            before = cpu_seconds(processes)
            run = getattr(flow, name).options(progress=False)().info
            cpus[name].append((cpu_seconds(processes) - before) * 1000 / STEPS)
            walls[name].append((run.end_time - run.start_time).total_seconds() * 1000 / STEPS)
    print(f"chains of {STEPS} steps on `local`, in turns: ms a step, min / median / max")
    for name, title in chains.items():
        verdict = f"   bar 20: {bar(statistics.median(walls[name]) <= 20)}" if name == "python" else ""
        print(f"  {title:<37} wall {spread(walls[name], 1):<20} CPU {spread(cpus[name], 1)}{verdict}", flush=True)


def of_parent(process: Path, parent: int, program: bytes) -> bool:
    try:
        return program in (process / "cmdline").read_bytes() and int((process / "stat").read_text().rsplit(")", 1)[1].split()[1]) in (1, parent)
    except OSError:
        return False


def lists(rounds: int) -> None:
    import importlib.util

    import orchd

    with orchd.Client() as client:
        if importlib.util.find_spec("pandas") is None:
            print("10,000 runs to pandas: pandas is not here (ORCH_BENCH_PYTHON names a Python that has it)")
            return
        import pandas  # noqa: F401  not part of what is measured

        client.list_runs(limit=1)
        took = []
        rows = 0
        for _ in range(rounds):
            begin = time.perf_counter()
            rows = len(orchd.table(client.list_runs(limit=10_000)))
            took.append((time.perf_counter() - begin) * 1000)
        good = statistics.median(took) <= 1000 and rows == 10_000
        print(f"{rows} runs to pandas, with the calls: ms, {spread(took, 0)}   bar 1000: {bar(good)}")


if __name__ == "__main__":
    if sys.argv[1] == "steps":
        steps(int(sys.argv[2]), json.loads(sys.argv[3]), Path(sys.argv[4]))
    else:
        lists(int(sys.argv[2]))
