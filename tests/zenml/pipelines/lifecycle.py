"""What is set up before a step and taken down after it, and shared by its hooks."""
from zenml import get_step_context, pipeline, step


def set_up(where: str) -> dict[str, str]:
    return {"connected": where}


def take_down() -> None:
    print("disconnected")


@step
def use() -> str:
    return get_step_context().pipeline_run.name + " " + str(get_step_context().run_state if hasattr(get_step_context(), "run_state") else "")


@pipeline(enable_cache=False, on_init=set_up, on_init_kwargs={"where": "there"}, on_cleanup=take_down)
def lifecycle():
    use()


def main():
    lifecycle()


if __name__ == "__main__":
    main()
