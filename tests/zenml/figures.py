"""Seconds that pipelines take on orchd (its steps in forks, and in processes that they share) and on ZenML's own `local`,
in turns, in one client: `figures.py ROUNDS`. Beside them what two processes at once can gain at all: each runs half of
the independent steps on `local`.

A JSON line for each: what, on, seconds.
"""
import json
import os
import sys
import time

from world import HERE, daemon  # before ZenML

from zenml import pipeline, step
from zenml.client import Client
from zenml.config.global_config import GlobalConfiguration
from zenml.utils import source_utils

source_utils.set_custom_source_root(str(HERE))


@step
def one(n: int = 0) -> int:
    return n + 1


@step
def nap(n: int) -> int:
    time.sleep(2)
    return n


@step
def join(a: int, b: int) -> int:
    return a + b


@pipeline(enable_cache=False)
def single():
    one()


@pipeline(enable_cache=False)
def wide():
    for _ in range(50):
        one()


@pipeline(enable_cache=False)
def half():
    for _ in range(25):
        one()


@pipeline(enable_cache=False)
def chain():
    n = one()
    for _ in range(49):
        n = one(n)


@pipeline(enable_cache=False)
def diamond():
    n = one()
    join(nap(n), nap(n))


def timed(what, on: str) -> float:
    Client().activate_stack("default" if on == "local" else "orchd")
    if on != "local":
        what = what.with_options(settings={"orchestrator": {"isolation": on}})
    began = time.perf_counter()
    run = what()
    seconds = time.perf_counter() - began
    assert Client().get_pipeline_run(run.id).status.value == "completed"
    return seconds


def halves() -> float:
    """From the moment that the first begins until both have ended."""
    Client().activate_stack("default")
    ends = []
    for _ in range(2):
        reading, writing = os.pipe()
        if os.fork() == 0:
            Client._reset_instance()
            GlobalConfiguration._reset_instance()
            single()  # it opens the store
            began = time.perf_counter()
            half()
            os.write(writing, f"{began} {time.perf_counter()}".encode())
            os._exit(0)
        os.close(writing)
        ends.append(reading)
    times = []
    for reading in ends:
        with open(reading) as said:  # to the end of the fork
            times.append([float(word) for word in said.read().split()])
        os.wait()
    return max(end for _, end in times) - min(began for began, _ in times)


def main() -> None:
    daemon()
    os.chdir(HERE)
    for on in ("worker", "local"):
        timed(single, on)  # the first of all starts the worker
    for _ in range(int(sys.argv[1])):
        for what in (single, wide, chain, diamond):
            for on in ("worker", "shared", "local"):
                print(json.dumps({"what": what.name, "on": on, "seconds": timed(what, on)}), flush=True)
        print(json.dumps({"what": "halves", "on": "local", "seconds": halves()}), flush=True)


if __name__ == "__main__":
    sys.modules["figures"] = sys.modules["__main__"]
    main()
