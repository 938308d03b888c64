"""A step that fails twice, with retries of ZenML's."""
import os
import pathlib

from zenml import pipeline, step
from zenml.config.retry_config import StepRetryConfig


@step(retry=StepRetryConfig(max_retries=3, delay=1, backoff=1))
def flaky() -> int:
    tries = pathlib.Path(os.environ.get("TRIES", "/nowhere"))
    number = int(tries.read_text()) + 1 if tries.exists() else 1
    tries.write_text(str(number))
    if number < 3:
        raise RuntimeError(f"try {number} fails")
    return number


@pipeline(enable_cache=False)
def retried():
    flaky()


def main():
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        retried.with_options(environment={"TRIES": f"{folder}/tries"})()


if __name__ == "__main__":
    main()
