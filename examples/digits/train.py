"""Trains one model, named as the first argument, and tells how it did in cross-validation."""
import json
import os
import pickle
import sys

try:
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier
except ImportError as missing:
    sys.exit(f"python3-sklearn is missing ({missing}): apt-get install python3-sklearn")


def make(name, seed):
    models = {
        "knn": lambda: KNeighborsClassifier(n_neighbors=3, algorithm="brute"),
        "logistic": lambda: make_pipeline(MinMaxScaler(), LogisticRegression(C=1.0, max_iter=500)),
        "svm": lambda: SVC(kernel="rbf", gamma=0.001, C=10.0),
        "tree": lambda: DecisionTreeClassifier(max_depth=12, random_state=seed),
        "forest": lambda: RandomForestClassifier(n_estimators=100, n_jobs=1, random_state=seed),
    }
    if name not in models:
        sys.exit(f"no model `{name}`: there are {', '.join(models)}")
    return models[name]()


def main():
    name = sys.argv[1]
    with open(os.environ["ORCH_PARAMS"], encoding="utf-8") as file:
        params = json.load(file)
    table = np.loadtxt(os.environ["ORCH_INPUT_TABLE"], delimiter=",", skiprows=1)
    labels, images = table[:, 0].astype(int), table[:, 1:]
    seed = int(params["seed"])
    folds = StratifiedKFold(n_splits=int(params["folds"]), shuffle=True, random_state=seed)
    scores = cross_val_score(make(name, seed), images, labels, cv=folds)
    print(f"{name}: {scores.mean():.4f} in cross-validation, folds {' '.join(f'{score:.4f}' for score in scores)}")
    model = make(name, seed).fit(images, labels)
    with open(os.environ["ORCH_OUTPUT_MODEL"], "wb") as out:
        pickle.dump(model, out, protocol=4)
    with open(os.environ["ORCH_OUTPUT_FIT"], "w", encoding="ascii") as out:
        json.dump({"cross_validation": round(float(scores.mean()), 6), "spread": round(float(scores.std()), 6)}, out)


if __name__ == "__main__":
    main()
