"""Parameters from a YAML file."""
import pathlib
import tempfile

from zenml import pipeline, step


@step
def scale(n: int, factor: int = 1) -> int:
    return n * factor


@pipeline
def configured(n: int = 1):
    scale(n)


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "config.yaml")
        path.write_text("enable_cache: false\nparameters:\n  n: 6\nsteps:\n  scale:\n    parameters:\n      factor: 7\n")
        configured.with_options(config_path=str(path))()


if __name__ == "__main__":
    main()
