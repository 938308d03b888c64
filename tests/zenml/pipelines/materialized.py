"""An object with a materializer of one's own."""
import os

from zenml import pipeline, step
from zenml.enums import ArtifactType
from zenml.materializers.base_materializer import BaseMaterializer


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y


class PointMaterializer(BaseMaterializer):
    ASSOCIATED_TYPES = (Point,)
    ASSOCIATED_ARTIFACT_TYPE = ArtifactType.DATA

    def load(self, data_type):
        with self.artifact_store.open(os.path.join(self.uri, "point.txt"), "r") as file:
            x, y = file.read().split()
        return Point(int(x), int(y))

    def save(self, data):
        with self.artifact_store.open(os.path.join(self.uri, "point.txt"), "w") as file:
            file.write(f"{data.x} {data.y}")


@step(output_materializers=PointMaterializer)
def make() -> Point:
    return Point(3, 4)


@step
def norm(point: Point) -> float:
    return float((point.x**2 + point.y**2) ** 0.5)


@pipeline(enable_cache=False)
def materialized():
    norm(make())


def main():
    materialized()


if __name__ == "__main__":
    main()
