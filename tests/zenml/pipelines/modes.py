"""What a failed step means for the others, in each execution mode."""
import contextlib
import time

from zenml import pipeline, step
from zenml.enums import ExecutionMode


@step
def bad() -> int:
    time.sleep(1)
    raise ValueError("on purpose")


@step
def slow() -> int:
    for _ in range(40):
        time.sleep(0.1)
    return 1


@step
def after_bad(n: int) -> int:
    return n


@step
def after_slow(n: int) -> int:
    return n


@pipeline(enable_cache=False)
def modes():
    after_bad(bad())
    after_slow(slow())


def main():
    for mode in (ExecutionMode.CONTINUE_ON_FAILURE, ExecutionMode.STOP_ON_FAILURE, ExecutionMode.FAIL_FAST):
        with contextlib.suppress(Exception):
            modes.with_options(run_name=f"modes-{mode.value}-{{date}}-{{time}}", execution_mode=mode)()


if __name__ == "__main__":
    main()
