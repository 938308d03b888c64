"""A dynamic pipeline: loops and conditions while it runs, steps that are mapped, and one in a process of its own."""
import os

from zenml import pipeline, step
from zenml.config import ResourceSettings


@step
def count() -> int:
    return 3


@step
def square(n: int) -> int:
    return n * n


@step
def numbers(n: int) -> list[int]:
    return list(range(n))


@step(runtime="isolated", settings={"resources": ResourceSettings(cpu_count=0.5)})
def apart(n: int) -> dict[str, int]:
    return {"n": n, "pid": os.getpid()}


@step
def total(values: list[int]) -> int:
    return sum(values)


@pipeline(dynamic=True, enable_cache=False)
def dynamic():
    n = count()
    if n.load() > 2:
        squares = square.map(numbers(n))
        total(squares)
    one = apart.submit(n)
    one.result()


def main():
    dynamic()


if __name__ == "__main__":
    main()
