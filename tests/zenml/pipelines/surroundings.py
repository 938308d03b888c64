"""Environment variables of the pipeline and of a step, and a secret of ZenML's."""
import os

from zenml import pipeline, step
from zenml.client import Client


@step(environment={"COLOUR": "green", "PRICE": "5$ or $MORE"}, secrets=["surroundings_secret"])
def look() -> dict[str, str]:
    return {name: os.environ.get(name, "") for name in ("COLOUR", "PRICE", "SHAPE", "password")}


@step
def other() -> str:
    return os.environ.get("COLOUR", "none")


@pipeline(enable_cache=False, environment={"SHAPE": "round"})
def surroundings():
    look()
    other()


def main():
    known = [secret.name for secret in Client().list_secrets()]
    if "surroundings_secret" not in known:
        Client().create_secret("surroundings_secret", values={"password": "open-sesame-42"})
    surroundings()


if __name__ == "__main__":
    main()
