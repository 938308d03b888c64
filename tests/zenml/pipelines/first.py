"""The smallest that passes data."""
from zenml import pipeline, step

@step
def load() -> list[int]:
    print("loading")
    return [1, 2, 3]

@step
def total(values: list[int], scale: float = 2.0) -> float:
    return sum(values) * scale

@pipeline(enable_cache=False)
def sums():
    total(load())


def main():
    sums()


if __name__ == "__main__":
    main()
