"""Artifacts that are saved and loaded by name, and one of an earlier run that a step takes."""
from zenml import load_artifact, pipeline, save_artifact, step
from zenml.client import Client


@step
def keep() -> None:
    save_artifact({"seen": 3}, name="kept_by_hand")


@step
def read() -> int:
    return load_artifact("kept_by_hand")["seen"]


@pipeline(enable_cache=False)
def keeping():
    keep()
    read(after="keep")


@step
def take(seen: dict) -> int:
    return seen["seen"] + 1


@pipeline(enable_cache=False)
def taking():
    take(Client().get_artifact_version("kept_by_hand"))


def main():
    keeping()
    taking()


if __name__ == "__main__":
    main()
