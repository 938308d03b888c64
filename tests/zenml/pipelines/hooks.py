"""Hooks at the ends of steps."""
import contextlib

from zenml import get_step_context, log_metadata, pipeline, step


def on_failure(exception: BaseException) -> None:
    context = get_step_context()
    log_metadata({"told_failure": f"{context.step_run.name}: {exception}"}, step_name=context.step_run.name,
                 run_id_name_or_prefix=context.pipeline_run.id)


def on_success() -> None:
    context = get_step_context()
    log_metadata({"told_success": context.step_run.name}, step_name=context.step_run.name,
                 run_id_name_or_prefix=context.pipeline_run.id)


@step(on_success=on_success)
def good() -> int:
    return 1


@step(on_failure=on_failure)
def bad(n: int) -> int:
    raise ValueError("hooked")


@pipeline(enable_cache=False)
def hooked():
    bad(good())


def main():
    with contextlib.suppress(Exception):
        hooked()


if __name__ == "__main__":
    main()
