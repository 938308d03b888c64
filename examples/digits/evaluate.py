"""Judges one trained model by images that it has never seen."""
import json
import os
import pickle
import sys

try:
    import numpy as np
    from sklearn.metrics import accuracy_score, f1_score
except ImportError as missing:
    sys.exit(f"python3-sklearn is missing ({missing}): apt-get install python3-sklearn")


def main():
    table = np.loadtxt(os.environ["ORCH_INPUT_TABLE"], delimiter=",", skiprows=1)
    labels, images = table[:, 0].astype(int), table[:, 1:]
    with open(os.environ["ORCH_INPUT_MODEL"], "rb") as file:
        model = pickle.load(file)
    with open(os.environ["ORCH_INPUT_FIT"], encoding="ascii") as file:
        fit = json.load(file)
    found = model.predict(images)
    score = {
        "model": sys.argv[1],
        "accuracy": round(float(accuracy_score(labels, found)), 6),
        "f1": round(float(f1_score(labels, found, average="macro")), 6),
        "errors": int((labels != found).sum()),
        "cross_validation": fit["cross_validation"],
        "model_bytes": os.path.getsize(os.environ["ORCH_INPUT_MODEL"]),
    }
    np.savetxt(os.environ["ORCH_OUTPUT_PREDICTIONS"], found, fmt="%d", header="predicted", comments="")
    with open(os.environ["ORCH_OUTPUT_SCORE"], "w", encoding="ascii") as out:
        json.dump(score, out)
    print(f"{score['model']}: accuracy {score['accuracy']:.4f}, {score['errors']} of {len(labels)} images misread")


if __name__ == "__main__":
    main()
