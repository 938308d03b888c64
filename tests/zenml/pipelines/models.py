"""A model of the control plane, which the run and its artifacts belong to."""
from typing import Annotated

from zenml import ArtifactConfig, Model, pipeline, step
from zenml.enums import ArtifactType


@step
def train() -> Annotated[int, ArtifactConfig(name="weights", artifact_type=ArtifactType.MODEL)]:
    return 42


@pipeline(enable_cache=False, model=Model(name="forty_two", description="all that there is", license="MIT"))
def modelled():
    train()


def main():
    modelled()


if __name__ == "__main__":
    main()
