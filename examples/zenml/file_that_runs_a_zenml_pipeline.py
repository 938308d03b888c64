"""A ZenML pipeline as ZenML's own documentation writes it; nothing in it knows of orchd.

    pip install 'zenml[local]>=0.97,<0.99' ./client/python
    python -m orchd.zenml setup
    python examples/zenml/file_that_runs_a_zenml_pipeline.py
"""

from zenml import pipeline, step
from zenml.client import Client


@step
def load_data() -> dict[str, list[float]]:
    return {"x": [1.0, 2.0, 3.0, 4.0], "y": [3.1, 4.9, 7.2, 8.8]}


@step
def fit(data: dict[str, list[float]]) -> dict[str, float]:
    x, y = data["x"], data["y"]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)
    return {"slope": slope, "intercept": mean_y - slope * mean_x}


@step
def largest_error(data: dict[str, list[float]], line: dict[str, float]) -> float:
    return max(abs(line["intercept"] + line["slope"] * a - b) for a, b in zip(data["x"], data["y"]))


@pipeline
def fit_a_line() -> None:
    data = load_data()
    largest_error(data, fit(data))


if __name__ == "__main__":
    run = fit_a_line()
    run = Client().get_pipeline_run(run.id)
    print(run.name, run.status.value)
    print("largest error:", round(run.steps["largest_error"].outputs["output"][0].load(), 3))
    if "orchestrator_url" in run.run_metadata:  # ZenML's own `local` has none
        print("at", run.run_metadata["orchestrator_url"])
