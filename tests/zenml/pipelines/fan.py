"""As many steps as a loop makes, and one that reads them all."""
from zenml import get_step_context, pipeline, step
from zenml.client import Client


@step
def work(n: int) -> int:
    return n * n


@step
def gather(prefix: str) -> int:
    run = Client().get_pipeline_run(get_step_context().pipeline_run.id)
    return sum(s.outputs["output"][0].load() for name, s in run.steps.items() if name.startswith(prefix))


@pipeline(enable_cache=False)
def fan(count: int = 4):
    after = []
    for n in range(count):
        work(n, id=f"work_{n}")
        after.append(f"work_{n}")
    gather("work_", after=after)


def main():
    fan()


if __name__ == "__main__":
    main()
