"""Seconds that pipelines take on orchd and on ZenML's own `local`, in turns, in one client: `figures.py ROUNDS`.

A JSON line for each: what, stack, seconds.
"""
import json
import os
import sys
import time

from world import HERE, daemon  # before ZenML

from zenml import pipeline, step
from zenml.client import Client
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
def chain():
    n = one()
    for _ in range(49):
        n = one(n)


@pipeline(enable_cache=False)
def diamond():
    n = one()
    join(nap(n), nap(n))


def main() -> None:
    daemon()
    os.chdir(HERE)
    for number in range(int(sys.argv[1])):
        for what in (single, wide, chain, diamond):
            for stack in ("orchd", "default"):
                Client().activate_stack(stack)
                began = time.perf_counter()
                run = what()
                seconds = time.perf_counter() - began
                assert Client().get_pipeline_run(run.id).status.value == "completed"
                if number or what is not single:  # the first of all starts the worker
                    print(json.dumps({"what": what.name, "stack": stack, "seconds": seconds}), flush=True)
                else:
                    again = time.perf_counter()
                    what()
                    print(json.dumps({"what": what.name, "stack": stack, "seconds": time.perf_counter() - again}), flush=True)


if __name__ == "__main__":
    sys.modules["figures"] = sys.modules["__main__"]
    main()
