"""Steps in an order without data, one of them named otherwise, and a pipeline within a pipeline."""
from zenml import pipeline, step


@step
def prepare() -> None:
    print("prepared")


@step(name="second")
def then() -> int:
    return 2


@step
def last() -> None:
    print("last")


@pipeline
def inner():
    prepare()
    return then(after="prepare")


@pipeline(enable_cache=False)
def ordered():
    n = inner()
    last(after=n)


def main():
    ordered()


if __name__ == "__main__":
    main()
