"""Splits the table into training and test rows, with the same share of each digit in both."""
import json
import os
import sys

try:
    from sklearn.model_selection import train_test_split
except ImportError as missing:
    sys.exit(f"python3-sklearn is missing ({missing}): apt-get install python3-sklearn")


def main():
    with open(os.environ["ORCH_PARAMS"], encoding="utf-8") as file:
        params = json.load(file)
    with open(os.environ["ORCH_INPUT_TABLE"], encoding="ascii") as table:
        header, *rows = table.readlines()
    labels = [row.split(",", 1)[0] for row in rows]
    train, test = train_test_split(
        rows, test_size=params["test_share"], random_state=int(params["seed"]), stratify=labels
    )
    for name, part in (("TRAIN", train), ("TEST", test)):
        with open(os.environ[f"ORCH_OUTPUT_{name}"], "w", encoding="ascii") as out:
            out.writelines([header, *part])
    print(f"{len(train)} rows to train on, {len(test)} to test with")


if __name__ == "__main__":
    main()
