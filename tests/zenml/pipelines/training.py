"""ZenML's starter guide: load, split by names, train, evaluate."""
from typing import Annotated

import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from zenml import pipeline, step


@step
def training_data_loader() -> tuple[
    Annotated[pd.DataFrame, "X_train"],
    Annotated[pd.DataFrame, "X_test"],
    Annotated[pd.Series, "y_train"],
    Annotated[pd.Series, "y_test"],
]:
    iris = load_iris(as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(iris.data, iris.target, test_size=0.2, random_state=42)
    return X_train, X_test, y_train, y_test


@step
def svc_trainer(
    X_train: pd.DataFrame, y_train: pd.Series, gamma: float = 0.001
) -> tuple[Annotated[ClassifierMixin, "trained_model"], Annotated[float, "training_acc"]]:
    model = SVC(gamma=gamma)
    model.fit(X_train.to_numpy(), y_train.to_numpy())
    training_acc = float(model.score(X_train.to_numpy(), y_train.to_numpy()))
    return model, training_acc


@step
def evaluator(model: ClassifierMixin, X_test: pd.DataFrame, y_test: pd.Series) -> Annotated[float, "test_acc"]:
    return float(model.score(X_test.to_numpy(), y_test.to_numpy()))


@pipeline
def training_pipeline(gamma: float = 0.1):
    X_train, X_test, y_train, y_test = training_data_loader()
    model, _ = svc_trainer(gamma=gamma, X_train=X_train, y_train=y_train)
    evaluator(model, X_test, y_test)


def main():
    training_pipeline()


if __name__ == "__main__":
    main()
