"""Two branches that do not depend on each other, and a step that joins them."""
import time

from zenml import pipeline, step


@step
def begin() -> int:
    return 1


@step
def left(n: int) -> float:
    began = time.time()
    time.sleep(2)
    return began


@step
def right(n: int) -> float:
    began = time.time()
    time.sleep(2)
    return began


@step
def join(one: float, other: float) -> float:
    return abs(one - other)


@pipeline(enable_cache=False)
def branches():
    n = begin()
    join(left(n), right(n))


def main():
    branches()


if __name__ == "__main__":
    main()
