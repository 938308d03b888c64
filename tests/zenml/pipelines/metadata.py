"""Metadata of steps, runs and artifacts, and tags."""
from typing import Annotated

from zenml import ArtifactConfig, log_metadata, pipeline, step


@step
def measure() -> Annotated[float, ArtifactConfig(name="accuracy_of_it", tags=["measured"])]:
    log_metadata({"epochs": 3, "shape": [2, 3]})
    log_metadata({"accuracy": 0.5}, infer_artifact=True)
    return 0.5


@pipeline(enable_cache=False, tags=["tagged"])
def measured():
    measure()


def main():
    measured()


if __name__ == "__main__":
    main()
