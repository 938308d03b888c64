"""What steps need, and settings of the whole pipeline."""
from zenml import pipeline, step
from zenml.config import ResourceSettings


@step(settings={"resources": ResourceSettings(cpu_count=1, memory="256MB")})
def small() -> int:
    return 1


@step
def plain(n: int) -> int:
    return n + 1


@pipeline(enable_cache=False, settings={"resources": ResourceSettings(cpu_count=0.5)})
def sized():
    plain(small())


def main():
    sized()


if __name__ == "__main__":
    main()
