"""Keeps the model that did best in cross-validation; the held-out images only tell how good it is."""
import json
import os
import shutil


def main():
    with open(os.environ["ORCH_INPUT_SCORES"], encoding="utf-8") as file:
        scores = json.load(file)
    folder = os.environ["ORCH_INPUT_MODELS"]
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        models = {entry["item"]["model"]: entry["path"] for entry in json.load(file)}
    best = max(scores, key=lambda score: (score["cross_validation"], score["model"]))
    shutil.copyfile(os.path.join(folder, models[best["model"]]), os.environ["ORCH_OUTPUT_MODEL"])
    with open(os.environ["ORCH_OUTPUT_WINNER"], "w", encoding="ascii") as out:
        json.dump({"model": best["model"], "accuracy": best["accuracy"]}, out)
    print(f"the winner is {best['model']}: it reads {best['accuracy']:.2%} of the test images")


if __name__ == "__main__":
    main()
