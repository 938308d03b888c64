"""The second run finds all of the first in ZenML's cache."""
from zenml import pipeline, step


@step
def expensive(n: int) -> int:
    print("computing")
    return n * n


@step
def more(n: int) -> int:
    return n + 1


@pipeline(enable_cache=True)
def cached():
    more(expensive(7))


def main():
    cached()
    cached()


if __name__ == "__main__":
    main()
