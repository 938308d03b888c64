"""A pipeline of plain functions: iris flowers, three models by cross-validation, the best one kept under a name.

    python3 examples/python/flowers.py                    # needs numpy and scikit-learn
    python3 examples/python/flowers.py --folds 10         # another parameter: what does not use it comes from the cache
    orchctl why RUN report                                # the run is the daemon's; every tool sees it
    python3 -c 'print(__import__("orchd").Client().get_artifact("flowers-model").size)'
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from orchd import current_step, fixed, pipeline, shell, step

MODELS = {
    "neighbours": KNeighborsClassifier(5),
    "logistic": LogisticRegression(max_iter=500),
    "tree": DecisionTreeClassifier(max_depth=3, random_state=0),
}


class Flowers(NamedTuple):
    """Each field becomes an output of the step."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


@step
def load(seed: int) -> Flowers:
    x, y = load_iris(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.3, random_state=seed, stratify=y)
    return Flowers(train_x, train_y, test_x, test_y)


@step(retries=1)
def score(x: np.ndarray, y: np.ndarray, model: str, folds: int) -> float:
    scores = cross_val_score(MODELS[model], x, y, cv=folds)
    print(f"{model}: {scores.mean():.3f} +- {scores.std():.3f}")
    return float(scores.mean())


@step
def choose(scores: list[float]) -> str:
    best = int(np.argmax(scores))
    return list(MODELS)[best]


@step(publish="flowers-model")  # an artifact under a name of its own, which outlives the run
def fit(x: np.ndarray, y: np.ndarray, model: str) -> ClassifierMixin:
    return MODELS[model].fit(x, y)


@step
def judge(model: ClassifierMixin, x: np.ndarray, y: np.ndarray) -> float:
    return float(model.score(x, y))


@step
def report(best: str, accuracy: float, scores: list[float]) -> Path:
    lines = [f"{name:12} {value:.3f}" for name, value in zip(MODELS, scores)]
    page = current_step().scratch / "report.txt"
    page.write_text("\n".join([*lines, f"{best} is kept; on flowers it never saw: {accuracy:.3f}", ""]))
    return page


@step
def complain(accuracy: float) -> str:
    return f"only {accuracy:.3f}: nothing to show"


@pipeline(cache=True)
def flowers(folds: int = 5, seed: int = 1, good: float = 0.9):
    """Which model knows iris flowers best?"""
    data = load(seed)
    scores = score.map(fixed(data.train_x), fixed(data.train_y), model=list(MODELS), folds=folds)
    best = choose(scores)
    model = fit(data.train_x, data.train_y, best)
    accuracy = judge(model, data.test_x, data.test_y)
    page = report.options(when=accuracy >= good)(best, accuracy, scores)
    shell("count", "wc -l < ${inputs.page} > ${outputs.lines}", inputs={"page": page}, outputs={"lines": int})
    complain.options(when=accuracy < good)(accuracy)


if __name__ == "__main__":
    run = flowers.main()
    if run.steps["report"].state in ("SUCCEEDED", "CACHED"):
        print(run.steps["report"].output.load(Path).read_text(), end="")
    else:
        print(run.steps["complain"].output.load())
